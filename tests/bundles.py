"""The manifest of a bundle whose graphs are written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maxim_deploy._files import sha256_of
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.manifest import Bundle, GraphEntry, Manifest


def write_manifest(folder: Path, graph: GraphEntry, settings: dict[str, Any]) -> None:
    """Make a folder a bundle of one graph; lists the files that are in it."""
    manifest = Manifest(
        model=Descriptor("tiny"),
        architecture=Architecture(8, 1, 1, 1),
        settings=settings,
        graphs=[graph],
        source=None,
        files={
            path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path in folder.iterdir()
        },
        tools={},
        command="",
        created="2026-01-01T00:00:00+00:00",
    )
    Bundle(folder, manifest).write()
