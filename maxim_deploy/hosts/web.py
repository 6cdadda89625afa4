"""A page that restores pictures in the browser: a static site.

| file | what it is |
|---|---|
| `index.html`, `style.css`, `icon.svg`, `*.js` | the page, the same for every network |
| `site.json` | what the page must know of this network and this runtime |
| `model.onnx` | the image form in float32, weights inside |
| `sample.png` | a photograph to try and to time |
| `runtime/` | onnxruntime-web, with its licence |
| `README.md`, `LICENSE` | how to serve the page; licence of the weights |

`site.json`: `model` (`name`, `task`, `dataset`, `licence`, `architecture`), `graph` (`file`,
`bytes`), `sample`, `runtime` (`version`, and for each backend `module` and `binary`, with `file`
and `bytes`), `most_pixels` (the largest padded picture), `made_with`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

from maxim_deploy._files import write_text
from maxim_deploy._version import __version__
from maxim_deploy.graph.files import load_whole_graph, save_graph
from maxim_deploy.hosts.order import Order
from maxim_deploy.hosts.sample import noisy_photograph
from maxim_deploy.hosts.web_runtime import BACKENDS, VERSION, runtime_files
from maxim_deploy.imaging.files import write_image
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.manifest import LICENCE_FILE
from maxim_deploy.spec.run_memory import RunMemory, typical_run_memory

PAGE = Path(__file__).with_name("web_page")
GRAPH, SAMPLE, RUNTIME, README = "model.onnx", "sample.png", "runtime", "README.md"

ADDRESSABLE_BYTES = 4 * 1024**3
"""Address space of WebAssembly, whose pointers have 32 bits."""

RUNTIME_BYTES = 64 * 1024**2
"""Memory of the runtime without a network: 24 MB, doubled for later growth."""

USABLE = 0.85
"""Usable share of the rest: memory is fragmented by runs of different sizes."""

WEIGHT_COPIES = 3
"""Copies of the weights: the file, the tensors, and the layout for matrix products."""


def write(order: Order, folder: Path) -> None:
    """Fill an empty folder with the site.

    Raises:
        UsageError: `--web-runtime` is missing, or its files differ from the pinned ones.
        BundleError: the bundle has no float32 graph of the image form, or the graph has changed.
    """
    runtime = runtime_files(order.wishes.web_runtime)
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)
    for name, content in runtime.items():
        (folder / RUNTIME / name).write_bytes(content)
    (precision,) = order.precisions
    entry = order.bundle.graph(precision, "image")
    with order.bundle.private_graph(entry) as path:
        graph = load_whole_graph(path)
        save_graph(graph, folder / GRAPH, None, dict(graph.metadata_props))
    _, noisy = noisy_photograph()
    write_image(folder / SAMPLE, noisy)
    memory = entry.measured.run_memory or typical_run_memory(order.architecture)
    most = most_pixels(memory, (folder / GRAPH).stat().st_size)
    site = site_facts(order, folder, most)
    write_text(folder / "site.json", json.dumps(site, indent=2) + "\n")
    write_text(folder / README, _readme(site))
    if order.licence is not None:
        write_text(folder / LICENCE_FILE, order.licence)


def site_facts(order: Order, folder: Path, most: int) -> dict[str, Any]:
    """The content of `site.json`, see the module."""

    def sized(file: str) -> dict[str, Any]:
        return {"file": file, "bytes": (folder / file).stat().st_size}

    model = order.model
    return {
        "model": {
            "name": model.name,
            "task": model.task,
            "dataset": model.dataset,
            "licence": model.licence,
            "architecture": str(order.architecture),
        },
        "graph": sized(GRAPH),
        "sample": SAMPLE,
        "runtime": {
            "version": VERSION,
            **{
                backend: {
                    "module": sized(f"{RUNTIME}/{files.module}"),
                    "binary": sized(f"{RUNTIME}/{files.binary}"),
                }
                for backend, files in BACKENDS.items()
            },
        },
        "most_pixels": most,
        "made_with": f"maxim-deploy {__version__}",
    }


def most_pixels(memory: RunMemory, graph_bytes: int) -> int:
    """The most padded pixels of a run that fit the browser's memory.

    Args:
        memory: memory of runs in bytes by padded pixels.
        graph_bytes: size of the graph's file, including weights.
    """
    left = ADDRESSABLE_BYTES - RUNTIME_BYTES - WEIGHT_COPIES * graph_bytes
    budget = USABLE * left
    tile = MULTIPLE_OF**2  # the unit of padded pictures
    # A byte per pixel: an upper bound, because every run takes more
    fits, too_many = 0, ADDRESSABLE_BYTES // tile
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if memory.bytes_for(middle * tile) <= budget:
            fits = middle
        else:
            too_many = middle
    return fits * tile


def _readme(site: dict[str, Any]) -> str:
    model = site["model"]
    return Template((PAGE / README).read_text("utf-8")).substitute(
        name=model["name"],
        architecture=model["architecture"],
        licence=model["licence"] or "not known",
        megapixels=f"{site['most_pixels'] / 1e6:.1f}",
        version=site["runtime"]["version"],
        made_with=site["made_with"],
    )
