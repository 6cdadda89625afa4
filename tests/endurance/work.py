"""Work that writes something, with what is whole before, after, and after a kill in between.

Exports take a fake network that multiplies by a factor, so that a graph of another export shows.
"""

from __future__ import annotations

import io
import shutil
from abc import ABC, abstractmethod
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx_ir as ir
from bundles import ARCHITECTURE
from clips import clip
from engines.bundles import settings as engine_settings
from engines.bundles import tiny_graph, write_bundle
from inverter import Inverter, level, picture

from maxim_deploy import load
from maxim_deploy._files import sha256_of
from maxim_deploy.checkpoints import Checkpoint, parameter_shapes, transfer
from maxim_deploy.checkpoints.download import download
from maxim_deploy.engines.store import add_engine
from maxim_deploy.errors import BundleError
from maxim_deploy.export import bundle as export_room
from maxim_deploy.export.settings import BundleSettings
from maxim_deploy.graph.files import save_graph
from maxim_deploy.jobs.restore import restore_files
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.models import PublishedModel

FACTORS = {"half": 0.5, "quarter": 0.25}
LEVEL = 128
"""Of the picture that a reader restores."""


class Work(ABC):
    """One command's writing into a folder of its own."""

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """What is there before."""

    @abstractmethod
    def run(self, folder: Path) -> None:
        """Do it, or what a killed run has left of it; raises if that fails."""

    @abstractmethod
    def torn(self, folder: Path) -> list[str]:
        """What a kill has left under its final name and is neither as before nor as after."""

    def wrong(self, folder: Path) -> list[str]:
        """What is not as it should be after a run to the end: content, or leftovers."""
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        return [f"there: {names}"] * (names != self.names(folder)) + self.torn(folder)

    @abstractmethod
    def names(self, folder: Path) -> list[str]:
        """What there should be after a run to the end, hidden files included."""


class _FactorWriter:
    """In place of `GraphWriter`: the graph multiplies by the factor that a checkpoint names."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, *_: object) -> None:
        self._folder, self._factor = folder, FACTORS[checkpoint.descriptor.name]

    def write(self) -> list[GraphEntry]:
        listed = ", ".join([str(self._factor)] * 512)  # enough for a file of weights
        model = ir.from_onnx_text(
            '<ir_version: 10, opset_import: ["": 20]> factor '
            "(float[N, 3, H, W] image) => (float[N, 3, H, W] restored)"
            f"<float[512] weights = {{ {listed} }}>"
            "{ [mean] factor = ReduceMean <keepdims = 0> (weights)"
            " [product] restored = Mul (image, factor) }"
        )
        save_graph(model, self._folder / "fp32.tensor.onnx", "fp32.weights", {})
        return [GraphEntry("fp32.tensor.onnx", "fp32", "tensor", "fp32.weights", 20, 2)]


def export(folder: Path, name: str, *, force: bool = True) -> Bundle:
    """Export the fake network of that name over what is there."""
    shapes = parameter_shapes(ARCHITECTURE)
    arrays = {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    checkpoint = Checkpoint(arrays, ARCHITECTURE, Descriptor(name))
    settings = BundleSettings(("fp32",), ("tensor",), verify=False)
    with patch.object(export_room, "GraphWriter", _FactorWriter):
        return export_room.export_bundle(checkpoint, folder, settings, force=force)[0]


def wrong_graph(folder: Path) -> str | None:
    """What a reader finds: None if a restored picture is that of the manifest's network.

    Raises:
        MaximDeployError: the bundle is refused.
    """
    image = np.full((8, 8, 3), LEVEL, np.uint8)
    with load(folder, backend="onnxruntime", threads=1) as restorer:
        restored, name = int(restorer(image)[0, 0, 0]), restorer.info.model.name
    expected = round(LEVEL * FACTORS[name])
    return None if restored == expected else f"{name} gives {restored}, not {expected}"


def _damage(folder: Path) -> list[str]:
    """What is wrong with a bundle's files and engines."""
    try:
        bundle = Bundle.open(folder)
        for name in bundle.manifest.files:
            bundle.checked(name)
        for entry in bundle.manifest.engines:
            bundle.checked_engine(entry)
    except BundleError as error:
        return [str(error)]
    problem = bundle.manifest.export.problem
    return [problem] if problem else []


class Export(Work):
    """A bundle replaces another one."""

    def prepare(self, folder: Path) -> None:
        export(folder / "bundle", "half")

    def run(self, folder: Path) -> None:
        export(folder / "bundle", "quarter")

    def torn(self, folder: Path) -> list[str]:
        return _damage(folder / "bundle")

    def wrong(self, folder: Path) -> list[str]:
        name = Bundle.open(folder / "bundle").manifest.model.name
        return super().wrong(folder) + [f"the bundle is {name}"] * (name != "quarter")

    def names(self, folder: Path) -> list[str]:
        files = "export.json fp32.tensor.onnx fp32.weights manifest.json source.safetensors"
        return ["bundle", *(f"bundle/{name}" for name in files.split())]


class FirstExport(Export):
    """A bundle where none is."""

    def prepare(self, folder: Path) -> None:
        pass

    def torn(self, folder: Path) -> list[str]:
        return super().torn(folder) if (folder / "bundle").exists() else []


class Engine(Work):
    """An engine of TensorRT for RTX, in a bundle of one small graph."""

    def prepare(self, folder: Path) -> None:
        write_bundle(folder / "bundle", tiny_graph())

    def run(self, folder: Path) -> None:
        add_engine(folder / "bundle", engine_settings("64x64"))

    def torn(self, folder: Path) -> list[str]:
        return _damage(folder / "bundle")

    def names(self, folder: Path) -> list[str]:
        (entry,) = Bundle.open(folder / "bundle").manifest.engines
        files = "export.json fp16.image.onnx fp16.table.json fp16.weights manifest.json"
        stem = entry.file.removesuffix(".engine")
        written = ["engines", entry.file, f"{stem}.log", f"{stem}.layers.json"]
        return sorted(["bundle", *(f"bundle/{name}" for name in [*files.split(), *written])])


class Run(Work):
    """Pictures through a network that inverts, with a record."""

    count = 4

    def prepare(self, folder: Path) -> None:
        for number in range(self.count):
            picture(str(folder / f"in/{number}.png"), 10 * number)

    def run(self, folder: Path) -> None:
        results = [*restore_files(_inverter(), [folder / "in"], folder / "out", resume=True)]
        assert [one.error for one in results] == [None] * self.count, results

    def torn(self, folder: Path) -> list[str]:
        paths = sorted((folder / "out").glob("*.png"))
        return [path.name for path in paths if level(path) != 255 - 10 * int(path.stem)]

    def names(self, folder: Path) -> list[str]:
        files = [f"{number}.png" for number in range(self.count)]
        ins, outs = (sorted(f"{place}/{name}" for name in files) for place in ("in", "out"))
        return ["in", *ins, "out", "out/.maxim-run.jsonl", *outs]


class Video(Work):
    """A video through a network that inverts."""

    def prepare(self, folder: Path) -> None:
        clip(folder / "in.mp4", sound=False)
        self.run(folder)
        (folder / "out.mp4").rename(folder / "expected")
        (folder / ".maxim-run.jsonl").unlink(missing_ok=True)

    def run(self, folder: Path) -> None:
        (result,) = restore_files(_inverter(), [folder / "in.mp4"], folder / "out.mp4")
        assert result.error is None, result

    def torn(self, folder: Path) -> list[str]:
        out = folder / "out.mp4"
        same = not out.exists() or sha256_of(out) == sha256_of(folder / "expected")
        return [] if same else [out.name]

    def names(self, folder: Path) -> list[str]:
        record = [".maxim-run.jsonl"] * (folder / ".maxim-run.jsonl").exists()
        return [*record, "expected", "in.mp4", "out.mp4"]


def _checkpoint() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.arange(200_000, dtype=np.float32))
    return file.getvalue()


class Download(Work):
    """A checkpoint from a server that knows ranges."""

    model = PublishedModel("local-model", "denoising", "none", "S-1", "None", 0.0, 0.0)
    content = _checkpoint()

    def prepare(self, folder: Path) -> None:
        pass

    def run(self, folder: Path) -> None:
        with patch.object(transfer, "_opened", self._answer):
            path = download(self.model, folder=folder)
        assert path.read_bytes() == self.content

    def _answer(self, url: str, headers: dict[str, str] | None = None) -> Any:
        start = int((headers or {}).get("Range", "bytes=0-")[6:-1])
        body = io.BytesIO(self.content[start:])
        said = {"ETag": '"one"', "Content-Length": str(len(self.content) - start)}
        if start:
            said["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return _Answer(body, 206 if start else 200, said)

    def torn(self, folder: Path) -> list[str]:
        path = folder / "local-model/checkpoint.npz"
        whole = not path.exists() or path.read_bytes() == self.content
        return [] if whole else [path.name]

    def names(self, folder: Path) -> list[str]:
        files = ["checkpoint.npz", "checkpoint.npz.sha256"]
        return ["local-model", *(f"local-model/{name}" for name in files)]


class _Answer(SimpleNamespace):
    def __init__(self, body: io.BytesIO, status: int, headers: dict[str, str]) -> None:
        said = Message()
        for name, value in headers.items():
            said[name] = value
        super().__init__(read=body.read, status=status, headers=said, length=len(body.getvalue()))

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


def _inverter() -> Any:
    return Inverter()


WORK: dict[str, Work] = {
    "export": Export(),
    "first-export": FirstExport(),
    "engine": Engine(),
    "run": Run(),
    "video": Video(),
    "download": Download(),
}


def emptied(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
