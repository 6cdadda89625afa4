"""The front door: from a checkpoint to a bundle on disk."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maxim_deploy._files import atomic_directory, settled, sha256_of
from maxim_deploy._version import __version__
from maxim_deploy.checkpoints import Checkpoint, write_safetensors
from maxim_deploy.errors import BundleError
from maxim_deploy.export.tracing import OPSET, onnx_from_module
from maxim_deploy.export.verify import verify_graph
from maxim_deploy.graph import check_graph, node_count, save_graph
from maxim_deploy.model import module_from_checkpoint
from maxim_deploy.spec.manifest import MANIFEST, Bundle, GraphEntry, Manifest

SOURCE = "source.safetensors"


@dataclass(frozen=True)
class BundleSettings:
    """What an export is asked for. Equal settings and weights give an equal bundle.

    Attributes:
        precision: "fp32".
        io: "tensor".
        source: keep the literal weights in the bundle.
        verify: compare each graph with PyTorch before it is kept.
    """

    precision: tuple[str, ...] = ("fp32",)
    io: tuple[str, ...] = ("tensor",)
    source: bool = True
    verify: bool = True

    def to_json(self) -> dict[str, Any]:
        """As recorded in the manifest."""
        lists = {"precision": list(self.precision), "io": list(self.io)}
        return {**asdict(self), **lists, "opset": OPSET}


def export_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    settings: BundleSettings | None = None,
    *,
    force: bool = False,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Bundle, bool]:
    """Export a checkpoint into a bundle directory, which appears whole or not at all.

    Args:
        checkpoint: the weights.
        folder: the bundle; its parents are made. A bundle that is there already stays as it is if
            it was made from the same weights with the same settings.
        settings: what to export; None for the defaults.
        force: export anew and replace a bundle that is there.
        command: command line to record in the manifest.
        say: told what is being done, in a few words, as it begins.

    Returns:
        (the bundle, whether it was exported now).

    Raises:
        BundleError: `folder` is something else, a bundle of other weights or settings, or cannot
            be written.
        ExportError: the graph is not valid, or differs from the network.
    """
    settings = settings or BundleSettings()
    if _holds_bundle(folder) and not force:
        existing = Bundle.open(folder)
        _check_same(existing, checkpoint, settings)
        return existing, False
    try:
        with atomic_directory(folder) as partial:
            _fill(partial, checkpoint, settings, command, say)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {str(folder)!r}: {error}") from error
    return Bundle.open(folder), True


def _fill(
    folder: Path,
    checkpoint: Checkpoint,
    settings: BundleSettings,
    command: str,
    say: Callable[[str], None],
) -> None:
    """Write every file of a bundle, the manifest last."""
    graph = _write_graph(checkpoint, folder, settings, say)
    if settings.source:
        write_safetensors(folder / SOURCE, checkpoint)
    manifest = Manifest(
        model=checkpoint.descriptor,
        architecture=checkpoint.architecture,
        settings=settings.to_json(),
        graphs=[graph],
        source=SOURCE if settings.source else None,
        files=_file_records(folder),
        tools=_tool_versions(),
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    Bundle(folder, manifest).write()


def _write_graph(
    checkpoint: Checkpoint, folder: Path, settings: BundleSettings, say: Callable[[str], None]
) -> GraphEntry:
    path, weights = folder / "fp32.tensor.onnx", "fp32.weights"
    module = module_from_checkpoint(checkpoint)
    say("tracing the network (about a minute per stage)")
    model = onnx_from_module(module)
    metadata = {
        **{f"model.{key}": fact for key, fact in checkpoint.descriptor.to_json().items()},
        "architecture": str(checkpoint.architecture),
        "precision": "fp32",
        "io": "tensor",
        "producer": f"maxim-deploy {__version__}",
    }
    save_graph(model, path, weights, metadata)
    check_graph(path)
    parity = []
    if settings.verify:
        say("comparing ONNX Runtime with PyTorch")
        parity = verify_graph(module, path)
    return GraphEntry(path.name, "fp32", "tensor", weights, OPSET, node_count(path), parity)


def _holds_bundle(folder: Path) -> bool:
    """Whether a bundle, whole or damaged, is there; false for nothing or an empty directory.

    Raises:
        BundleError: something is there that we did not write, so that we must not replace it.
    """
    found = settled(folder)
    if (found / MANIFEST).is_file():
        return True
    if found.exists() and not (found.is_dir() and not any(found.iterdir())):
        raise BundleError(f"{str(folder)!r} exists and is not a bundle; choose another name")
    return False


def _check_same(existing: Bundle, checkpoint: Checkpoint, settings: BundleSettings) -> None:
    old, new = existing.manifest.model.source_sha256, checkpoint.descriptor.source_sha256
    if old != new:
        raise BundleError(
            f"{str(existing.path)!r} was made from another checkpoint: it has SHA-256 {old}, this "
            f"one {new}. Choose another name, or pass --force to export anew"
        )
    before, after = existing.manifest.settings, settings.to_json()
    differing = [
        f"{key}: {before.get(key)} there, {after.get(key)} now"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    if differing:
        raise BundleError(
            f"{str(existing.path)!r} was exported with other settings ({'; '.join(differing)}). "
            "Choose another name, or pass --force to export anew"
        )


def _file_records(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }


def _tool_versions() -> dict[str, str]:
    libraries = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")
    versions = {name: importlib.metadata.version(name) for name in libraries}
    return {"maxim-deploy": __version__, **versions}
