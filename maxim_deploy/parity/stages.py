"""The stages of the line from checkpoint to image, each by its name.

| name | what restores a picture |
|---|---|
| `BUNDLE:literal`, `WEIGHTS:literal` | PyTorch, the network as published |
| `BUNDLE:deployment`, `WEIGHTS:deployment` | PyTorch on the deployment form |
| `BUNDLE:fp32`, `:fp16`, `:bf16` | ONNX Runtime (CPU) on the graph of that precision, as it is |
| `BUNDLE:fp16.simulated`, ... | the same in float32, every stored tensor rounded |
| `BUNDLE:fp32.image`, `:fp16.image` | the graph of the image form, 8 bits in and out |
| `BUNDLE:onnxruntime`, `:tensorrt.fp16`, ... | the runtime with that backend, and that precision |
| `GRAPH.onnx`, `GRAPH.onnx:simulated` | a graph by itself |
| `STORED.npz` | outputs that were stored with their inputs |
| `FOLDER` | pictures in 8 bits, matched by name |

A bundle without a stage is the graph of the precision asked for. Stages on a CPU run any size as
the runtime does: padded as published, whole.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np

from maxim_deploy._folders import read_whole
from maxim_deploy.errors import BundleError, UsageError, unknown
from maxim_deploy.imaging import from_unit, to_unit
from maxim_deploy.parity.comparison import Pixels
from maxim_deploy.parity.networks import graph_stage, module_stage
from maxim_deploy.parity.pictures import Sample
from maxim_deploy.parity.stage import Stage
from maxim_deploy.parity.stored import Folder, StoredOutputs
from maxim_deploy.runtime.loading import load
from maxim_deploy.runtime.names import PrecisionName
from maxim_deploy.runtime.registry import backend_names
from maxim_deploy.runtime.restorer import Restorer
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import MANIFEST
from maxim_deploy.spec.precision import FULL, LOW, PRECISIONS

MODULES = ("literal", "deployment")
SIMULATED = tuple(f"{name}.simulated" for name in LOW)


class RuntimeStage(Stage):
    """The runtime itself, as an application embeds it: `load` and a call."""

    def __init__(self, name: str, restorer: Restorer) -> None:
        self.name, self._restorer = name, restorer
        info = restorer.info
        self.precision, self.is_8bit = info.precision, info.io == "image"
        self.facts = {
            "model": info.model.to_json(),
            "backend": info.backend,
            "device": info.device,
            "library": info.library,
            "precision": info.precision,
            "io": info.io,
        }

    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """As `Stage.restore`."""
        image = to_unit(sample.pixels)
        # The image form takes 8 bits: the stage rounds its input as every caller has to.
        if self.is_8bit:
            image = from_unit(image, np.dtype(np.uint8))
        return to_unit(self._restorer(image, self_ensemble=self_ensemble))

    def close(self) -> None:
        """Give the backend back."""
        self._restorer.close()


def open_stage(name: str, precision: str | None = None, **options: Any) -> Stage:
    """The stage of a name.

    Args:
        name: see the module.
        precision: of a bundle that is named without a stage, and of a backend; None for fp32 and
            for the backend's own choice.
        options: of `maxim_deploy.load`, for backends.

    Raises:
        UsageError: there is no such stage; the message lists those there are.
        BundleError, CheckpointError, ImageError: it cannot be opened.
        MissingDependencyError: what runs it is not installed.
    """
    path, stage = split_name(name)
    if (path / MANIFEST).is_file():
        wanted = stage or precision or FULL

        def opened() -> Stage:
            # Opened again if the bundle is replaced: graph and manifest are of one export.
            return _of_bundle(name, Bundle.open(path), wanted, precision, options)

        return read_whole(path, opened, Stage.close)
    if stored := stored_stage(name):
        return stored
    if path.suffix == ".onnx" and stage in ("", "simulated") and path.is_file():
        return graph_stage(name, path, simulated=bool(stage))
    if stage in MODULES and path.is_file():
        return module_stage(name, path, stage)
    raise UsageError(_not_a_stage(name, path, stage))


def stored_stage(name: str) -> Folder | StoredOutputs | None:
    """The stage of a name if its results were stored; it brings pictures along. None otherwise.

    Raises:
        UsageError, ImageError: it cannot be opened.
    """
    path, stage = split_name(name)
    if path.is_dir() and not stage and not (path / MANIFEST).is_file():
        return Folder(name, path)
    if path.suffix == ".npz" and not stage and path.is_file():
        return StoredOutputs(name, path)
    return None


def bundle_of(name: str) -> Bundle | None:
    """The bundle that a stage's name is about, or None."""
    path, _ = split_name(name)
    return Bundle.open(path) if (path / MANIFEST).is_file() else None


def split_name(name: str) -> tuple[Path, str]:
    """The path and the stage ("" if none is named) of a name; a path may have colons itself.

    A stage may end in `twin`, the older name of `simulated`.
    """
    path, colon, stage = name.rpartition(":")
    if not colon or Path(name).exists() or "/" in stage:
        return Path(name), ""
    return Path(path), re.sub(r"\btwin$", "simulated", stage)


def bundle_stages(bundle: Bundle) -> tuple[str, ...]:
    """The stages of a bundle by name, backends apart."""
    manifest = bundle.manifest
    graphs = {(entry.precision, entry.io) for entry in manifest.graphs}
    modules = MODULES if manifest.source else ()
    tensors = [p for p in PRECISIONS if (p, "tensor") in graphs]
    return (
        *modules,
        *tensors,
        *(stage for stage in SIMULATED if stage.partition(".")[0] in tensors),
        *(f"{p}.image" for p in PRECISIONS if (p, "image") in graphs),
    )


def _of_bundle(
    name: str, bundle: Bundle, stage: str, precision: str | None, options: dict[str, Any]
) -> Stage:
    if stage in bundle_stages(bundle):
        if stage in MODULES:
            assert bundle.manifest.source is not None
            with bundle.private(bundle.manifest.source) as folder:
                return module_stage(name, folder / bundle.manifest.source, stage)
        wanted, _, form = stage.partition(".")
        entry = bundle.graph(wanted, "image" if form == "image" else "tensor")
        with bundle.private_graph(entry) as path:
            return graph_stage(name, path, simulated=form == "simulated")
    backend, _, own_precision = stage.partition(".")
    backends = ("auto", *backend_names())
    if backend in backends:
        chosen = cast(PrecisionName, own_precision or precision or "auto")
        restorer = load(bundle.path, backend=backend, precision=chosen, **options)
        return RuntimeStage(name, restorer)
    known = (*bundle_stages(bundle), *backends)
    if stage in (*MODULES, *PRECISIONS, *SIMULATED) or stage.endswith(".image"):
        raise BundleError(
            f"bundle {str(bundle.path)!r} has no stage {stage!r}; it has: {', '.join(known)}"
        )
    raise UsageError(f"bundle {str(bundle.path)!r}: {unknown('stage', stage, known)}")


def _not_a_stage(name: str, path: Path, stage: str) -> str:
    if not path.exists():
        return f"stage {name!r} | there is no {str(path)!r}"
    return (
        f"stage {name!r} | {str(path)!r} has no stage {stage!r} | expected a bundle, BUNDLE:STAGE, "
        "WEIGHTS:literal, GRAPH.onnx, STORED.npz or a folder of pictures"
    )
