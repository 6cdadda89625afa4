"""The files of a version before it is written: where their content comes from, and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.export_record import EXPORT_RECORD
from maxim_deploy.spec.manifest import MANIFEST, GraphEntry


@dataclass(frozen=True)
class Part:
    """A file of a version.

    Attributes:
        sha256: of its content.
        read: gives the content, compared with the hash.
    """

    sha256: str
    read: Callable[[], bytes]


def file_part(bundle: Bundle, name: str) -> Part | None:
    """A file of a bundle; None if it has none of this name."""
    if name in (MANIFEST, EXPORT_RECORD):
        path = bundle.path / name
        return bytes_part(path.read_bytes()) if path.exists() else None
    record = bundle.manifest.files.get(name)
    return Part(record["sha256"], partial(bundle.read, name)) if record else None


def graph_parts(bundle: Bundle, entry: GraphEntry) -> tuple[Part, Part | None]:
    """(a graph, its weights if they are in a file of their own)."""
    graph = file_part(bundle, entry.file)
    assert graph is not None  # a manifest lists the files of its graphs
    return graph, file_part(bundle, entry.weights) if entry.weights else None


def engine_part(bundle: Bundle, engine: EngineEntry) -> Part:
    """An engine of a bundle."""
    return Part(engine.sha256, partial(bundle.read_engine, engine))


def bytes_part(content: bytes) -> Part:
    """A file that is in no bundle."""
    return Part(hashlib.sha256(content).hexdigest(), lambda: content)
