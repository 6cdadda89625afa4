"""The bundle's `manifest.json`: content and origin of the directory.

Equal settings on equal weights give equal manifests, byte for byte. Measurements and dates are in
`export.json` beside it, see `spec.export_record`. Manifests with engines may differ, because two
builds of one engine may differ in their bytes.

Format 2, UTF-8 JSON, one object:

| key | content |
|---|---|
| `format` | 2; a reader accepts 1 and 2 |
| `model` | `name`, `task`, `dataset`, `licence`, `source`, `source_sha256`; absent if unknown |
| `architecture` | `features`, `stages`, `groups`, `bottleneck_blocks` |
| `variant` | "S-2" and so on, or null for any other size |
| `settings` | the options of the export; equal settings on equal weights give an equal bundle |
| `graphs` | list of `GraphEntry` |
| `source` | the file with the literal weights, or null |
| `files` | `sha256` and `bytes` of each file except the manifest and `export.json` |
| `engines` | list of `EngineEntry` in the order of their addition; `files` has no engines |
| `tuned_graphs` | list of `TunedGraph`; absent if empty |

In format 1 the manifest had the keys of `export.json`: `tools`, `command` and `created`, and in
each entry those of `GraphRecord` and `EngineRecord`. Bundles of format 1 are read. Writing the
manifest again makes it a bundle of format 2.

A reader ignores unknown keys, and keeps them when it writes the manifest again, for example to add
an engine. This holds in the object itself, `model`, `architecture`, and the records of files,
graphs and engines. A version that adds an optional key keeps the number. A version raises the
number if a key changes its meaning, or if readers need a new key to run the bundle correctly.

File names have no folder. A graph ends in `.onnx` and names at most one file of weights. Hashes and
identities of engines are 64 hexadecimal digits in lower case.

Not checked: whether a graph computes what its entry says. Hashes and `parity` serve that purpose.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, get_type_hints

from maxim_deploy._reading import load_json
from maxim_deploy.errors import BundleError, shown
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.decoding import (
    NOT_STORED,
    SHA256,
    beyond,
    decoded,
    encoded,
    merged,
    stored_fields,
)
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.export_record import (
    EngineRecord,
    ExportRecord,
    GraphRecord,
    command_without_folders,
    digest_of_files,
    record_from,
)
from maxim_deploy.spec.tuned_graphs import TunedGraph

FORMAT = 2
MANIFEST = "manifest.json"
SOURCE, LICENCE_FILE = "source.safetensors", "LICENSE"
"""File names of the literal weights and of their licence text. Both are optional."""

EXPORT_AGAIN = "export the bundle again with --force"
"""What to do about a damaged bundle."""


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX graph of a bundle.

    Attributes:
        file: file name, `<precision>.<io>.onnx`.
        precision: precision of its inner tensors, a name in `spec.precision`.
        io: "tensor": `image` float32 [N, 3, H, W] in [0, 1], H and W multiples of 64, to `restored`
            of the same shape and type, not clipped. "image": `image` uint8 [N, H, W, 3] RGB, any H
            and W, to `restored` of the same shape and type; scaling, padding, cropping, clipping
            and rounding are in the graph. "planar": `input` float32 [N, 3, H, W] in [0, 1], any H
            and W, to `output` of the same shape and type, clipped; padding and cropping are in the
            graph; float16 instead where `settings` says `io_type` fp16.
        weights: the external-data file it shares with others of its precision, or None if embedded.
        opset: version of the ONNX operator set.
        nodes: number of nodes.
        form: "literal", or the deployment form, which says what exact rewrites made the graph.
            Older bundles lack the key and have the CPU's form.
        measured: measurements of the export. They are in `export.json`, not in the manifest.
        unknown: keys that only newer versions know, kept when the manifest is written again.
    """

    file: str
    precision: str
    io: str
    weights: str | None
    opset: int
    nodes: int
    form: str = "cpu"
    measured: GraphRecord = field(default_factory=GraphRecord, metadata=NOT_STORED)
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _FileRecord:
    sha256: str
    bytes: int
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`; see the module for the format.

    Attributes:
        export: the header of `export.json`. Its records of graphs and engines are in the entries:
            `GraphEntry.measured` and `EngineEntry.built`.
        unknown: keys that only newer versions know; those of `model` and `architecture` are nested.
    """

    model: Descriptor
    architecture: Architecture
    settings: dict[str, Any]
    graphs: list[GraphEntry]
    source: str | None
    files: dict[str, dict[str, Any]]
    engines: list[EngineEntry] = field(default_factory=list)
    tuned_graphs: list[TunedGraph] = field(default_factory=list)
    export: ExportRecord = field(default_factory=ExportRecord, metadata=NOT_STORED)
    unknown: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        document = merged(self._document(), self.unknown)
        return json.dumps(document, indent=2) + "\n"

    def export_record(self) -> ExportRecord:
        """The content of `export.json`, entries included."""
        return replace(
            self.export,
            bundle=digest_of_files(self.files),
            graphs={one.file: one.measured for one in self.graphs}
            | {one.file: one.measured for one in self.tuned_graphs},
            engines={one.file: replace(one.built, sha256=one.sha256) for one in self.engines},
        )

    def with_record(self, record: ExportRecord) -> Manifest:
        """This manifest, with a record's facts about graphs and engines in their entries."""
        built = {one.sha256: one for one in record.engines.values()}
        return replace(
            self,
            graphs=[
                replace(x, measured=record.graphs.get(x.file, x.measured)) for x in self.graphs
            ],
            engines=[replace(x, built=built.get(x.sha256, x.built)) for x in self.engines],
            tuned_graphs=[
                replace(x, measured=record.graphs.get(x.file, x.measured))
                for x in self.tuned_graphs
            ],
            export=replace(record, bundle="", graphs={}, engines={}),
        )

    def _document(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "model": self.model.to_json(),
            "architecture": self.architecture.to_json(),
            "variant": self.architecture.variant,
            "settings": self.settings,
            "graphs": [encoded(graph) for graph in self.graphs],
            "source": self.source,
            "files": self.files,
            "engines": [encoded(engine) for engine in self.engines],
            # Without tuned graphs the manifest equals that of versions that had none.
            **({"tuned_graphs": [*map(encoded, self.tuned_graphs)]} if self.tuned_graphs else {}),
        }

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            BundleError: the text is not JSON, has another format, or a key is missing or has a
                wrong type.
        """
        try:
            document = load_json(text)
            version = document["format"]
            if version not in (1, FORMAT):
                raise BundleError(
                    f"this bundle has format {version}; this maxim-deploy reads formats 1 and "
                    f"{FORMAT}: upgrade maxim-deploy, or {EXPORT_AGAIN}"
                )
            manifest = cls._checked(document)
            manifest = replace(manifest, unknown=beyond(document, manifest._document()))
            return _of_format_1(manifest) if version == 1 else manifest
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{MANIFEST} is damaged ({shown(error)}): {EXPORT_AGAIN}") from error

    @classmethod
    def _checked(cls, document: dict[str, Any]) -> Manifest:
        """The manifest; raises KeyError, TypeError or ValueError."""
        types = get_type_hints(cls) | {"files": dict[str, _FileRecord]}

        def read(name: str) -> Any:
            value = document[name]
            if name in ("model", "architecture"):  # other keys stay in `unknown`
                value = decoded(dict[str, Any], value, name)
                value = {key: value[key] for key in stored_fields(types[name]) if key in value}
            return decoded(types[name], value, name)

        has_none = {"tuned_graphs"} - document.keys()
        known = {name: read(name) for name in stored_fields(cls) if name not in has_none}
        known["files"] = {name: encoded(record) for name, record in known["files"].items()}
        manifest = cls(**known)
        named = [name for graph in manifest.graphs for name in (graph.file, graph.weights)]
        tuned = [graph.file for graph in manifest.tuned_graphs]
        for name in (*named, *tuned, manifest.source):
            if name is not None and name not in manifest.files:
                raise ValueError(f"files lists no {name!r}")
        for file in (*(graph.file for graph in manifest.graphs), *tuned):
            # ONNX Runtime reads another ending as another format, whose weights are not checked.
            if not file.endswith(".onnx"):
                raise ValueError(f"graph {file!r} must end in .onnx")
        plain = {graph.file for graph in manifest.graphs}
        for one in manifest.tuned_graphs:
            if one.of not in plain:
                raise ValueError(
                    f"{one.file!r} is made from {one.of!r}, which graphs does not list"
                )
        _check_hashes(manifest)
        return manifest


def _check_hashes(manifest: Manifest) -> None:
    """Raise an error for an invalid SHA-256.

    Files are compared with hashes and named after them.
    """
    hashes = {f"files.{name}.sha256": one["sha256"] for name, one in manifest.files.items()}
    for number, engine in enumerate(manifest.engines):
        hashes[f"engines[{number}].identity"] = engine.identity
        hashes[f"engines[{number}].sha256"] = engine.sha256
    for where, digest in hashes.items():
        if not SHA256.fullmatch(digest):
            raise ValueError(f"{where} must be 64 hexadecimal digits, not {digest!r}")


_MOVED = ("created", "command", "tools")
"""Keys of format 1 that moved to `export.json`, beside those of graphs and engines."""

_Entry = TypeVar("_Entry", Manifest, GraphEntry, EngineEntry)


def _of_format_1(manifest: Manifest) -> Manifest:
    """Move the keys of `export.json` out of a manifest of format 1 that was read as format 2.

    Raises:
        KeyError, TypeError, ValueError: one of these is damaged.
    """
    graphs = [_without_moved(one, stored_fields(GraphRecord)) for one in manifest.graphs]
    engines = [_without_moved(one, stored_fields(EngineRecord)) for one in manifest.engines]
    manifest, header = _without_moved(manifest, _MOVED)
    if isinstance(command := header.get("command"), str):  # format 1 kept folders in it
        header["command"] = command_without_folders(shlex.split(command))
    manifest = replace(manifest, graphs=[x for x, _ in graphs], engines=[x for x, _ in engines])
    record = {
        "graphs": {one.file: moved for one, moved in graphs},
        "engines": {one.file: {**moved, "sha256": one.sha256} for one, moved in engines},
    }
    return manifest.with_record(record_from({"format": 1, **header, **record}))


def _without_moved(entry: _Entry, keys: Collection[str]) -> tuple[_Entry, dict[str, Any]]:
    """(the entry, its former keys that are now in `export.json`)."""
    moved = {key: value for key, value in entry.unknown.items() if key in keys}
    kept = {key: value for key, value in entry.unknown.items() if key not in keys}
    return replace(entry, unknown=kept), moved
