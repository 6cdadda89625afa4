"""darktable's neural restore: a `.dtmodel`, a zip of a folder with graph, `config.json` and card.

darktable runs `[1, 3, H, W]` float32 sRGB in [0, 1] with ONNX Runtime, in tiles of 256 to 2048
pixels with an overlap of 64, and shows models of the task "denoise". It accepts weights only under
a licence that is compatible with the GPL.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from maxim_deploy._files import atomic_file
from maxim_deploy.errors import UsageError
from maxim_deploy.hosts.card import UNKNOWN, facts, write_readme
from maxim_deploy.hosts.order import Order
from maxim_deploy.hosts.planar import write_planar
from maxim_deploy.spec.manifest import LICENCE_FILE

TASK = "denoise"
"""darktable's only task for networks that keep the size of pictures."""

WITH_THE_GPL = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "GPL-3.0-or-later")
"""SPDX identifiers of licences that are compatible with darktable's."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the archive: fixed, so equal models give equal archives."""

USE = """\
1. In darktable 5.6 or newer, open preferences > AI, and import `{file}`; or unpack it into
   `~/.local/share/darktable/models/`.
2. In the lighttable, choose pictures, open "neural restore", and choose {name}.

darktable runs the network in tiles, and it sees no further than a tile: large tiles are better.
"""


def write(order: Order, folder: Path) -> None:
    """Write the archive and a README.

    Raises:
        UsageError: the weights' licence is known and not compatible with darktable's.
    """
    licence = order.model.licence
    if licence is not None and licence not in WITH_THE_GPL:
        raise UsageError(
            f"--for darktable cannot take weights under {licence}; it takes "
            f"{', '.join(WITH_THE_GPL)}"
        )
    model = _id(order)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        graph = Path(scratch, "model.onnx")
        write_planar(order, order.precisions[0], graph)
        files = {
            "config.json": json.dumps(_config(order, model), indent=2).encode() + b"\n",
            "model.onnx": graph.read_bytes(),
            "README.md": f"# {order.model.name}\n\n{facts(order)}".encode(),
        }
    if order.licence is not None:
        files[LICENCE_FILE] = order.licence.encode()
    with atomic_file(folder / f"{model}.dtmodel") as file:
        file.write(_zipped(model, files))
    use = USE.format(file=f"{model}.dtmodel", name=order.model.name)
    write_readme(order, folder, "Restoration of pictures in darktable.", use)


def _id(order: Order) -> str:
    """Task and name in lower case with hyphens, as darktable names models."""
    words = re.sub("[^a-z0-9]+", "-", order.model.name.lower()).strip("-")
    return f"{TASK}-maxim-{words or 'model'}"


def _config(order: Order, model: str) -> dict[str, Any]:
    task, dataset = order.model.task or UNKNOWN, order.model.dataset
    trained = f", trained on {dataset}" if dataset else ""
    return {
        "id": model,
        "name": f"MAXIM {order.model.name}",
        "description": f"MAXIM for {task}{trained}",
        "task": TASK,
        "backend": "onnx",
        "version": "1.0",
        "num_inputs": 1,
        "tiling": True,
    }


def _zipped(folder: str, files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            entry = zipfile.ZipInfo(f"{folder}/{name}", _EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            writer.writestr(entry, content)
    return archive.getvalue()
