"""The front door: from a checkpoint to a bundle on disk."""

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
from maxim_deploy.spec.descriptor import LICENCE
from maxim_deploy.spec.engines import ENGINE_FOLDER
from maxim_deploy.spec.export_record import EXPORT_RECORD, ExportRecord
from maxim_deploy.spec.manifest import LICENCE_FILE, MANIFEST, SOURCE, Bundle, Manifest
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
        folder: the bundle; its parents are made. A bundle that is there already stays as it is if
            it was made from the same weights with the same settings.
        settings: what to export; None for the defaults.
        table: precision table to use in place of the default one; its digest is a setting.
        force: export anew and replace a bundle that is there.
        allow_more: a bundle that is there may have more precisions and I/O forms than asked for,
            and deployment forms for other sizes.
        licence: text of the licence of own weights; its digest is a setting. The published models
            and the demo model have theirs.
        command: command line to record in `export.json`.
        progress: told what is being done.

    Returns:
        (the bundle, whether it was exported now).

    Raises:
        BundleError: `folder` is something else, a bundle of other weights or settings or with
            damaged files, or cannot be written.
        ExportError: the graph is not valid, or differs from the network.
    """
    settings = settings or BundleSettings()
    if table is not None:
        settings = settings.with_table(table)
    if licence is not None:
        settings = settings.with_licence(licence)
        # Its text says what it is; the checkpoint names the licence of the model that it was.
        checkpoint = replace(checkpoint, descriptor=replace(checkpoint.descriptor, licence=None))
    try:
        folder = Path(os.path.realpath(folder))  # may be `.`, which is replaced with the rest
        tidy(folder)
        if _holds_bundle(folder) and not force:

            def up_to_date() -> Bundle:
                return _up_to_date(Bundle.open(folder), checkpoint, settings, allow_more)

            return read_whole(folder, up_to_date), False
        # An export takes minutes. Whether another process wrote here is only known at its end.
        with atomic_directory(folder, replace=force) as partial:
            _fill(partial, checkpoint, settings, table, licence, command, progress)
    except OSError as error:
        # Of another name it is a file where the folder above should be.
        if isinstance(error, FileExistsError) and error.filename == str(folder):
            raise BundleError(
                f"another process has exported into {str(folder)!r} in the meantime; run again to "
                "compare with what is there"
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
    """Whether a bundle, whole or damaged, is there; false for nothing or an empty directory.

    Raises:
        BundleError: something is there that we did not write, so that we must not replace it.
    """
    found = settled(folder)
    if not found.exists() or (found.is_dir() and not any(found.iterdir())):
        return False
    if not (found / MANIFEST).is_file():
        raise BundleError(f"{str(folder)!r} exists and is not a bundle; choose another name")
    if strange := sorted(path.name for path in found.iterdir() if not _is_ours(path)):
        raise BundleError(
            f"{str(folder)!r} has files that no bundle has ({', '.join(strange)}); choose another "
            "name, or move them away"
        )
    return True


def _is_ours(path: Path) -> bool:
    """Whether a bundle has files of this name; other programs write a `manifest.json` too."""
    endings = (".onnx", ".weights", ".table.txt", ".table.json")
    written_later = tuple(f".{name}." for name in (MANIFEST, EXPORT_RECORD))
    left_by_a_kill = path.name.startswith(written_later) and path.suffix == ".partial"
    names = (MANIFEST, EXPORT_RECORD, SOURCE, LICENCE_FILE, ENGINE_FOLDER)
    return path.name in names or path.name.endswith(endings) or left_by_a_kill


def _up_to_date(
    existing: Bundle, checkpoint: Checkpoint, settings: BundleSettings, allow_more: bool
) -> Bundle:
    """`existing`, after checking that an export would make the same."""
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
            f"{str(existing.path)!r} was made from another checkpoint: it has SHA-256 {old}, this "
            f"one {new}. Choose another name, or pass --force to export anew"
        )
    # Older versions knew the CPU's form and float32 only, and did not say so.
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
            "Choose another name, or pass --force to export anew"
        )


def _in_any_order(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings to compare: no list of them says in which order."""
    return {key: sorted(x, key=str) if isinstance(x, list) else x for key, x in settings.items()}


def _check_whole(existing: Bundle) -> None:
    """Refuse to call a bundle up to date whose files are not those that were exported."""
    for name in existing.manifest.files:
        existing.checked(name)


def _check_same_weights(existing: Bundle, checkpoint: Checkpoint) -> None:
    """Weights that were changed may still name the file that they first came from."""
    if existing.manifest.source is None:
        return
    kept = read_checkpoint(existing.path / existing.manifest.source).arrays
    if kept.keys() != checkpoint.arrays.keys() or not all(
        np.array_equal(array, kept[path]) for path, array in checkpoint.arrays.items()
    ):
        raise BundleError(
            f"{str(existing.path)!r} was made from other weights, which name the same source. "
            "Choose another name, or pass --force to export anew"
        )


def _file_records(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }


def _tool_versions() -> dict[str, str]:
    onnx_ir = {"onnx-ir": importlib.metadata.version("onnx-ir")}
    return {"python": platform.python_version(), **library_versions(), **onnx_ir}
