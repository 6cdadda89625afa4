"""Loads of a bundle whose files another process swaps all the time.

    PYTHONPATH=tests python tests/swapping.py --seed 0 --loads 1000

What the manifest lists may run, or nothing. Prints how many loads ran it, were refused, and ran
anything else, by the way of swapping. The exit code is 1 if any ran something else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bundles import write_manifest
from spec.samples import entry

import maxim_deploy
from maxim_deploy._files import sha256_of
from maxim_deploy.errors import BackendError, BundleError
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import GraphEntry

GRAPH, WEIGHTS, ENGINE = "fp32.tensor.onnx", "fp32.weights", "engines/x.engine"
FORM = "(float[n,3,h,w] image) => (float[n,3,h,w] restored)"
WAYS = ("replace", "link", "write")
"""Rename another file to the name, point a link elsewhere, or write into the file."""

IMAGE = np.random.default_rng(0).random((64, 64, 3), np.float32)
EXPECTED = 2 * IMAGE


def write_network(folder: Path, operator: str, weight: float, padding: int) -> None:
    """A network of one operator and one weight; the longer its file, the longer it is read."""
    text = f'<ir_version: 10, opset_import: ["": 20]> network {FORM}'
    model = onnx.parser.parse_model(f"{text} {{ restored = {operator} (image, weight) }}")
    tensor = onnx.TensorProto(name="weight", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=WEIGHTS)
    tensor.external_data.add(key="length", value="4")
    model.graph.initializer.append(tensor)
    (folder / "engines").mkdir(parents=True)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    (folder / WEIGHTS).write_bytes(np.array([weight], np.float32).tobytes() + bytes(padding))
    (folder / ENGINE).write_bytes(operator.encode() + bytes(padding))


def write_bundle(folder: Path, padding: int = 0) -> Path:
    """A bundle, and beside it `listed` and `other` with the files to swap."""
    listed, other = folder.with_name("listed"), folder.with_name("other")
    write_network(listed, "Mul", 2, padding)
    write_network(other, "Sub", 3, padding)
    folder.mkdir()
    for name in (GRAPH, WEIGHTS):
        shutil.copy(listed / name, folder / name)
    graph = GraphEntry(GRAPH, "fp32", "tensor", WEIGHTS, 20, 1)
    write_manifest(folder, graph, settings={})
    shutil.copytree(listed / "engines", folder / "engines")
    engine = entry(ENGINE, "64x64", library="tensorrt", sha256=sha256_of(listed / ENGINE))
    bundle = Bundle.open(folder)
    bundle.manifest.engines.append(engine)
    bundle.write()
    return folder


def swap(file: Path, source: Path, way: str) -> None:
    """Make a file of the bundle the one in another folder."""
    if way == "write":
        file.write_bytes(source.read_bytes())
        return
    new = file.with_name(f"{file.name}.new")
    new.symlink_to(source) if way == "link" else shutil.copy(source, new)
    new.replace(file)


def keep_swapping(folder: Path, seed: int, way: str, is_over: Any) -> None:
    """Swap one file after another, until it is over."""
    chance = random.Random(seed)
    while not is_over.is_set():
        name = chance.choice((GRAPH, WEIGHTS, ENGINE))
        # More often what is listed, or hardly any load would find three files that fit.
        source = folder.with_name(chance.choice(("listed", "listed", "other")))
        with suppress(OSError):
            swap(folder / name, source / name, way)


@contextmanager
def swapper(folder: Path, seed: int, way: str) -> Iterator[None]:
    """Another process that swaps while the block runs."""
    context = multiprocessing.get_context("spawn")
    is_over = context.Event()
    process = context.Process(target=keep_swapping, args=(folder, seed, way, is_over), daemon=True)
    process.start()
    try:
        yield
    finally:
        is_over.set()
        process.join()


def what_runs(folder: Path) -> str:
    """Load the network and the engine's bytes once: "listed", "refused" or "another"."""
    try:
        engine = Bundle.open(folder).manifest.engines[0]
        if not Bundle.open(folder).read_engine(engine).startswith(b"Mul"):
            return "another"
        with maxim_deploy.load(folder, backend="onnxruntime", threads=1) as restorer:
            return "listed" if np.array_equal(restorer(IMAGE), EXPECTED) else "another"
    except (BundleError, BackendError):
        return "refused"


def loads_beside_a_swapper(folder: Path, seed: int, loads: int, way: str) -> Counter[str]:
    """How many of the loads did what, in a new folder."""
    write_bundle(folder / "bundle", padding=4_000_000)
    with swapper(folder / "bundle", seed, way):
        return Counter(what_runs(folder / "bundle") for _ in range(loads))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the first way; others follow")
    parser.add_argument("--loads", type=int, default=1000, help="by each way")
    parser.add_argument("--way", choices=WAYS, action="append", help="default: all")
    asked = parser.parse_args()
    others = 0
    for number, way in enumerate(asked.way or WAYS):
        with tempfile.TemporaryDirectory() as folder:
            counts = loads_beside_a_swapper(Path(folder), asked.seed + number, asked.loads, way)
        sys.stdout.write(f"{way}: {dict(counts)}\n")
        others += counts["another"]
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
