"""The entry point of exports: from a checkpoint to a bundle on disk."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from maxim_deploy._files import sha256_of, write_text
from maxim_deploy._folders import atomic_directory, read_whole, settled, tidy
from maxim_deploy._progress import Progress
from maxim_deploy.checkpoints import Checkpoint, licence_text, read_checkpoint, write_safetensors
from maxim_deploy.errors import BundleError
from maxim_deploy.export.graphs import GraphWriter
from maxim_deploy.export.settings import BundleSettings
from maxim_deploy.export.tuned import MIN_FEATURES, tuned_graphs
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.machine.facts import library_versions, machine_facts
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import LICENCE
from maxim_deploy.spec.engines import ENGINE_FOLDER
from maxim_deploy.spec.export_record import EXPORT_RECORD, ExportRecord
from maxim_deploy.spec.manifest import LICENCE_FILE, MANIFEST, SOURCE, Manifest
from maxim_deploy.spec.precision import AUTO, AUTO_RANGE, FULL
from maxim_deploy.spec.tuned_graphs import TunedGraph


def export_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    settings: BundleSettings | None = None,
    *,
    table: PrecisionTable | None = None,
    force: bool = False,
    allow_more: bool = False,
    licence: str | None = None,
    command: str = "",
    progress: Progress = lambda _: None,
) -> tuple[Bundle, bool]:
    """Export a checkpoint into a bundle directory, which appears whole or not at all.

    Args:
        checkpoint: the weights.
        folder: the bundle. Its parents are made. An existing bundle from the same weights and
            settings is kept.
        settings: what to export; None for the defaults.
        table: precision table to use in place of the default one; its digest is a setting.
        force: export again and replace an existing bundle.
        allow_more: whether an existing bundle may have more precisions and I/O forms than
            requested, and deployment forms for other sizes.
        licence: licence text of the user's weights; its digest is a setting. Published models and
            the demo model have their own.
        command: command line to record in `export.json`.
        progress: called with each step in words.

    Returns:
        (the bundle, whether it was exported now).

    Raises:
        BundleError: `folder` is not a bundle, is a bundle of other weights or settings or with
            damaged files, or cannot be written.
        ExportError: the graph is not valid, or differs from the network.
    """
    settings = settings or BundleSettings()
    if table is not None:
        settings = settings.with_table(table)
    if licence is not None:
        settings = settings.with_licence(licence)
        # The text describes the licence. The checkpoint may name that of the original model.
        checkpoint = replace(checkpoint, descriptor=replace(checkpoint.descriptor, licence=None))
    try:
        folder = Path(os.path.realpath(folder))  # may be `.`, which is replaced too
        tidy(folder)
        if _holds_bundle(folder) and not force:

            def up_to_date() -> Bundle:
                return _up_to_date(Bundle.open(folder), checkpoint, settings, allow_more)

            return read_whole(folder, up_to_date), False
        # An export takes minutes, and another process may write here meanwhile. This shows at the
        # end.
        with atomic_directory(folder, replace=force) as partial:
            _fill(partial, checkpoint, settings, table, licence, command, progress)
    except OSError as error:
        # With another name, a file is in the place of a parent folder.
        if isinstance(error, FileExistsError) and error.filename == str(folder):
            raise BundleError(
                f"another process has exported into {str(folder)!r} meanwhile; run again to "
                "compare with its bundle"
            ) from error
        raise BundleError(f"cannot write the bundle {str(folder)!r}: {error}") from error
    return Bundle.open(folder), True


def _fill(
    folder: Path,
    checkpoint: Checkpoint,
    settings: BundleSettings,
    table: PrecisionTable | None,
    licence: str | None,
    command: str,
    progress: Progress,
) -> None:
    """Write every file of a bundle, the manifest last."""
    graphs = GraphWriter(folder, checkpoint, settings, table, progress).write()
    tuned: list[TunedGraph] = []
    if checkpoint.architecture.features >= MIN_FEATURES:
        tuned += tuned_graphs(folder, graphs, verify=settings.verify, progress=progress)
    if settings.source:
        write_safetensors(folder / SOURCE, checkpoint)
    if licence is None and checkpoint.descriptor.licence == LICENCE:
        licence = licence_text()
    if licence is not None:
        write_text(folder / LICENCE_FILE, licence)
    manifest = Manifest(
        model=checkpoint.descriptor,
        architecture=checkpoint.architecture,
        settings=settings.to_json(),
        graphs=graphs,
        tuned_graphs=tuned,
        source=SOURCE if settings.source else None,
        files=_file_records(folder),
        export=ExportRecord(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=command,
            tools=_tool_versions(),
            machine=machine_facts(),
        ),
    )
    Bundle(folder, manifest).write()


def _holds_bundle(folder: Path) -> bool:
    """Whether there is a bundle, whole or damaged; false for nothing or an empty directory.

    Raises:
        BundleError: there are other files, which must not be replaced.
    """
    found = settled(folder)
    if not found.exists() or (found.is_dir() and not any(found.iterdir())):
        return False
    if not (found / MANIFEST).is_file():
        raise BundleError(f"{str(folder)!r} exists and is not a bundle; choose another name")
    if strange := sorted(path.name for path in found.iterdir() if not _is_ours(path)):
        raise BundleError(
            f"{str(folder)!r} has files that do not belong to a bundle ({', '.join(strange)}); "
            "choose another name, or move them away"
        )
    return True


def _is_ours(path: Path) -> bool:
    """Whether a bundle can have a file of this name.

    Other programs also write a `manifest.json`.
    """
    endings = (".onnx", ".weights", ".table.txt", ".table.json")
    written_later = tuple(f".{name}." for name in (MANIFEST, EXPORT_RECORD))
    left_by_a_kill = path.name.startswith(written_later) and path.suffix == ".partial"
    names = (MANIFEST, EXPORT_RECORD, SOURCE, LICENCE_FILE, ENGINE_FOLDER)
    return path.name in names or path.name.endswith(endings) or left_by_a_kill


def _up_to_date(
    existing: Bundle, checkpoint: Checkpoint, settings: BundleSettings, allow_more: bool
) -> Bundle:
    """`existing`, after checking that an export would make an equal bundle."""
    _check_same(existing, checkpoint, settings, allow_more)
    _check_whole(existing)
    _check_same_weights(existing, checkpoint)
    return existing


def _check_same(
    existing: Bundle, checkpoint: Checkpoint, settings: BundleSettings, allow_more: bool
) -> None:
    old, new = existing.manifest.model.source_sha256, checkpoint.descriptor.source_sha256
    if old != new:
        raise BundleError(
            f"{str(existing.path)!r} was made from another checkpoint: its SHA-256 is {old}, that "
            f"of this one is {new}. Choose another name, or pass --force to replace the bundle"
        )
    # Older versions had only the CPU's form and float32, without naming them.
    there = {"form": "cpu", "io_type": FULL, **existing.manifest.settings}
    before, after = map(_in_any_order, (there, settings.to_json()))
    if allow_more:
        after |= {
            key: before[key]
            for key in ("precision", "io")
            if set(after[key]) <= set(before.get(key, []))
        }
        if {before["form"], after["form"]} == {AUTO, AUTO_RANGE}:
            after["form"] = before["form"]
    differing = [
        f"{key}: {before.get(key)} there, {after.get(key)} now"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    if differing:
        raise BundleError(
            f"{str(existing.path)!r} was exported with other settings ({'; '.join(differing)}). "
            "Choose another name, or pass --force to replace the bundle"
        )


def _in_any_order(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings for comparison. Lists are sorted, because their order has no meaning."""
    return {key: sorted(x, key=str) if isinstance(x, list) else x for key, x in settings.items()}


def _check_whole(existing: Bundle) -> None:
    """Raise an error if files of the bundle have changed since the export."""
    for name in existing.manifest.files:
        existing.checked(name)


def _check_same_weights(existing: Bundle, checkpoint: Checkpoint) -> None:
    """Raise an error for other weights. Changed weights may still name their first source."""
    if existing.manifest.source is None:
        return
    kept = read_checkpoint(existing.path / existing.manifest.source).arrays
    if kept.keys() != checkpoint.arrays.keys() or not all(
        np.array_equal(array, kept[path]) for path, array in checkpoint.arrays.items()
    ):
        raise BundleError(
            f"{str(existing.path)!r} was made from other weights that name the same source. "
            "Choose another name, or pass --force to replace the bundle"
        )


def _file_records(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }


def _tool_versions() -> dict[str, str]:
    onnx_ir = {"onnx-ir": importlib.metadata.version("onnx-ir")}
    return {"python": platform.python_version(), **library_versions(), **onnx_ir}
