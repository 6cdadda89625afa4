"""The bundle's `manifest.json`: what is in the directory and where it came from.

Equal settings on equal weights give equal manifests, byte for byte. What was measured or dated
stands beside it in `export.json`, see `spec.export_record`. With engines, manifests are as equal as
the engines: two builds of one engine may differ in their bytes.

Format 2, UTF-8 JSON, one object:

| key | content |
|---|---|
| `format` | 2; a reader takes 1 as well and refuses another number |
| `model` | `name`, `task`, `dataset`, `licence`, `source`, `source_sha256`; absent if unknown |
| `architecture` | `features`, `stages`, `groups`, `bottleneck_blocks` |
| `variant` | "S-2" and so on, or null for any other size |
| `settings` | what the export was asked for; equal settings on equal weights give an equal bundle |
| `graphs` | list of `GraphEntry` |
| `source` | the file with the literal weights, or null |
| `files` | per file name `sha256` and `bytes`; all but the manifest itself and `export.json` |
| `engines` | list of `EngineEntry`, the one added last at the end; `files` has no engines |
| `tuned_graphs` | list of `TunedGraph`; absent if there is none |

Format 1 had the keys of `export.json` in the manifest: `tools`, `command` and `created`, and those
of `GraphRecord` and `EngineRecord` in each entry. A bundle of format 1 is read as it is. When its
manifest is written again, it becomes a bundle of format 2.

A reader ignores a key that it does not know, and keeps it when it writes the manifest again, as it
does to add an engine: in the object itself, `model`, `architecture`, and the records of files,
graphs and engines. So a version that adds a key which readers may do without keeps the number. One
that changes what a key says, or whose key readers must know to run the bundle rightly, raises it.

Names of files are bare. A graph ends in `.onnx` and names one file of weights at most. Hashes and
the identities of engines are 64 hexadecimal digits in lower case.

Not checked: that a graph computes what its entry says; that is what hashes and `parity` are for.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar, get_type_hints

from maxim_deploy._files import write_text
from maxim_deploy._folders import read_whole, settled
from maxim_deploy._reading import load_json, read_bounded
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
from maxim_deploy.spec.engines import ENGINE_FOLDER, EngineEntry
from maxim_deploy.spec.export_record import (
    EXPORT_RECORD,
    EngineRecord,
    ExportRecord,
    GraphRecord,
    command_without_folders,
    digest_of_files,
    record_from,
)
from maxim_deploy.spec.integrity import RecordedFile, private_folder, weights_in
from maxim_deploy.spec.tuned_graphs import TunedGraph

FORMAT = 2
MANIFEST = "manifest.json"
SOURCE, LICENCE_FILE = "source.safetensors", "LICENSE"
"""Names of the literal weights and of the text of their licence, where a bundle has them."""

_EXPORT_AGAIN = "export the bundle again, with --force"


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX graph of a bundle.

    Attributes:
        file: its name in the bundle, `<precision>.<io>.onnx`.
        precision: of what is inside, a name in `spec.precision`.
        io: "tensor": `image` float32 [N, 3, H, W] in [0, 1], H and W multiples of 64, to `restored`
            of the same shape and type, not clipped. "image": `image` uint8 [N, H, W, 3] RGB, any H
            and W, to `restored` of the same shape and type; scaling, padding, cropping, clipping
            and rounding are in the graph. "planar": `input` float32 [N, 3, H, W] in [0, 1], any H
            and W, to `output` of the same shape and type, clipped; padding and cropping are in the
            graph; float16 instead where `settings` says `io_type` fp16.
        weights: the external-data file it shares with others of its precision, or None if embedded.
        opset: version of the ONNX operator set.
        nodes: number of nodes.
        form: "literal", or the deployment form: which exact rewrites made it. Older
            bundles have the CPU's, and do not say so.
        measured: what was measured of it at export; in `export.json`, not in the manifest.
        unknown: what only newer versions say of it, kept on rewriting.
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
        export: the header of `export.json`. What that says of graphs and engines is in their
            entries: `GraphEntry.measured` and `EngineEntry.built`.
        unknown: what only newer versions say, by key; of `model` and `architecture` below these.
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
        """This manifest with what a record says of its graphs and engines in their entries."""
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
            # Bundles without one stay equal to those of versions that knew none.
            **({"tuned_graphs": [*map(encoded, self.tuned_graphs)]} if self.tuned_graphs else {}),
        }

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            BundleError: not JSON, another format version, or a key is missing or of a wrong type.
        """
        try:
            document = load_json(text)
            version = document["format"]
            if version not in (1, FORMAT):
                raise BundleError(
                    f"this bundle has format {version}; this maxim-deploy reads formats 1 and "
                    f"{FORMAT}: upgrade maxim-deploy, or {_EXPORT_AGAIN}"
                )
            manifest = cls._checked(document)
            manifest = replace(manifest, unknown=beyond(document, manifest._document()))
            return _of_format_1(manifest) if version == 1 else manifest
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{MANIFEST} is damaged ({shown(error)}): {_EXPORT_AGAIN}") from error

    @classmethod
    def _checked(cls, document: dict[str, Any]) -> Manifest:
        """The manifest; raises KeyError, TypeError or ValueError."""
        types = get_type_hints(cls) | {"files": dict[str, _FileRecord]}

        def read(name: str) -> Any:
            value = document[name]
            if name in ("model", "architecture"):  # what is beyond their fields stays in `unknown`
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
            # Another ending is another format to ONNX Runtime, whose locations nobody has checked.
            if not file.endswith(".onnx"):
                raise ValueError(f"graph {file!r} must end in .onnx")
        plain = {graph.file for graph in manifest.graphs}
        for one in manifest.tuned_graphs:
            if one.of not in plain:
                raise ValueError(f"graphs lists no {one.of!r}, of which {one.file!r} is made")
        _check_hashes(manifest)
        return manifest


def _check_hashes(manifest: Manifest) -> None:
    """Refuse what is no SHA-256: files are compared with these, and named after them."""
    hashes = {f"files.{name}.sha256": one["sha256"] for name, one in manifest.files.items()}
    for number, engine in enumerate(manifest.engines):
        hashes[f"engines[{number}].identity"] = engine.identity
        hashes[f"engines[{number}].sha256"] = engine.sha256
    for where, digest in hashes.items():
        if not SHA256.fullmatch(digest):
            raise ValueError(f"{where} must be 64 hexadecimal digits, not {digest!r}")


_MOVED = ("created", "command", "tools")
"""What format 1 had in the manifest, besides all keys of the records of graphs and engines."""

_Entry = TypeVar("_Entry", Manifest, GraphEntry, EngineEntry)


def _of_format_1(manifest: Manifest) -> Manifest:
    """A manifest that was read as one of format 2, with the keys of `export.json` in their place.

    Raises:
        KeyError, TypeError, ValueError: one of these is damaged.
    """
    graphs = [_without_moved(one, stored_fields(GraphRecord)) for one in manifest.graphs]
    engines = [_without_moved(one, stored_fields(EngineRecord)) for one in manifest.engines]
    manifest, header = _without_moved(manifest, _MOVED)
    if isinstance(command := header.get("command"), str):  # it had folders
        header["command"] = command_without_folders(shlex.split(command))
    manifest = replace(manifest, graphs=[x for x, _ in graphs], engines=[x for x, _ in engines])
    record = {
        "graphs": {one.file: moved for one, moved in graphs},
        "engines": {one.file: {**moved, "sha256": one.sha256} for one, moved in engines},
    }
    return manifest.with_record(record_from({"format": 1, **header, **record}))


def _without_moved(entry: _Entry, keys: Collection[str]) -> tuple[_Entry, dict[str, Any]]:
    """(the entry, its unknown keys that `export.json` has now)."""
    moved = {key: value for key, value in entry.unknown.items() if key in keys}
    kept = {key: value for key, value in entry.unknown.items() if key not in keys}
    return replace(entry, unknown=kept), moved


@dataclass(frozen=True)
class Bundle:
    """A bundle directory that has been opened: where it is, and what its manifest says."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Read a bundle's manifest and `export.json`; no other file is touched.

        What opens further files goes into `read_whole`, in case the bundle is replaced meanwhile.
        A damaged `export.json` is no error here: it is `manifest.export.problem`.

        Raises:
            BundleError: there is no directory, no manifest in it, or the manifest cannot be read.
        """
        return read_whole(Path(path), lambda: cls._open(path))

    @classmethod
    def _open(cls, path: Path | str) -> Bundle:
        folder = Path(path)
        try:
            folder = settled(folder)
            text = read_bounded(folder / MANIFEST).decode("utf-8")
        except FileNotFoundError:
            found = f"there is no {MANIFEST} in it" if folder.is_dir() else "no such directory"
            raise BundleError(
                f"{str(path)!r} is not a bundle: {found}. "
                f"Make one with: maxim-export MODEL -o {path}"
            ) from None
        except NotADirectoryError:
            raise BundleError(
                f"{str(path)!r} is a file, and a bundle is a folder{_bundle_around(folder)}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"cannot read the bundle {str(path)!r}: {error}") from error
        try:
            manifest = Manifest.from_json(text)
        except BundleError as error:
            raise BundleError(f"bundle {str(path)!r}: {error}") from error
        record = ExportRecord.read(folder, manifest.files)
        # Without the file, a bundle of format 1 has its record in the manifest.
        return cls(folder, manifest.with_record(record) if record != ExportRecord() else manifest)

    def write(self) -> None:
        """Write the manifest and `export.json` into the directory."""
        # A reader between the two finds a record of an engine that is not listed, which says
        # nothing. In the other order it would find an engine without its record.
        # Links are replaced: what they lead to is of a store, and of other bundles too.
        record = self.manifest.export_record().to_json()
        write_text(self.path / EXPORT_RECORD, record, follow=False)
        write_text(self.path / MANIFEST, self.manifest.to_json(), follow=False)

    def require_export_record(self) -> None:
        """Refuse a bundle whose `export.json` cannot be read, and so not be written again.

        Raises:
            BundleError: it is damaged, or belongs to another bundle.
        """
        if self.manifest.export.problem:
            raise BundleError(f"bundle {str(self.path)!r}: {self.manifest.export.problem}")

    def graph(self, precision: str, io: str) -> GraphEntry:
        """The entry of one graph.

        Raises:
            BundleError: the bundle has none like this; the message lists what it has.
        """
        for entry in self.manifest.graphs:
            if (entry.precision, entry.io) == (precision, io):
                return entry
        have = ", ".join(f"{entry.precision} {entry.io}" for entry in self.manifest.graphs)
        raise BundleError(
            f"bundle {str(self.path)!r} has no {precision} graph of the {io!r} form; it has: {have}"
        )

    def tuned(self, entry: GraphEntry, library: str) -> GraphEntry:
        """The entry of the graph that a library runs fastest in the place of one of `graphs`.

        It has the same input, output and weights. Without such a graph it is `entry` itself.
        """
        for one in self.manifest.tuned_graphs:
            if (one.of, one.library) == (entry.file, library):
                return replace(entry, file=one.file, nodes=one.nodes, measured=one.measured)
        return entry

    def checked(self, name: str) -> Path:
        """The path of a file of the bundle, after comparing it with its recorded hash.

        For a file that nobody will read: another one may be there a moment later. `read` and
        `private` give what was hashed.

        Raises:
            BundleError: the file is not listed, missing, or not the one that was exported.
        """
        return self._recorded(name).check()

    def read(self, name: str) -> bytes:
        """The content of a file of the bundle; raises as `checked` does."""
        return self._recorded(name).read()

    @contextmanager
    def private(self, *names: str) -> Iterator[Path]:
        """A folder of copies, removed with the block, for libraries that take paths only.

        What is mapped in the block stays mapped. Memory does not grow by the copies.

        Raises:
            BundleError: as `checked` does; or a copy cannot be written.
        """
        with private_folder() as folder:
            for name in names:
                self._recorded(name).copy(folder)
            yield folder

    def checked_graph(self, entry: GraphEntry) -> Path:
        """The path of a graph, after comparing it and its weights; as `checked`.

        Raises:
            BundleError: as `private_graph` does.
        """
        with self.private_graph(entry):
            return self.path / entry.file

    @contextmanager
    def private_graph(self, entry: GraphEntry) -> Iterator[Path]:
        """The path of a copy of a graph, its weights beside it, as `private` makes them.

        Raises:
            BundleError: as `private` does; or the graph names another file of weights, which nobody
                has checked.
        """
        with self.private(*filter(None, [entry.file, entry.weights])) as folder:
            yield weights_in(folder / entry.file, entry.weights, _EXPORT_AGAIN)

    def _recorded(self, name: str) -> RecordedFile:
        record = self.manifest.files.get(name)
        # Every file lies in the bundle's own folder, engines apart.
        if record is None or name in ("", "..") or name != PureWindowsPath(name).name:
            raise BundleError(f"the manifest of {str(self.path)!r} lists no file {name!r}")
        return RecordedFile(self.path / name, record["sha256"], "the export", _EXPORT_AGAIN)

    def digests(self, entry: GraphEntry) -> dict[str, str | None]:
        """SHA-256 of a graph and of its weights as recorded; None for weights in the graph."""
        files = self.manifest.files
        weights = files[entry.weights]["sha256"] if entry.weights else None
        return {"graph": files[entry.file]["sha256"], "weights": weights}

    def mismatches(self, entry: EngineEntry) -> list[str]:
        """Why an engine does not belong to this bundle: it was built from other files.

        Raises:
            BundleError: the bundle has no graph of the engine's precision and form.
        """
        now = self.digests(self.graph(entry.precision, entry.io))
        return [
            f"built from other {name} than the bundle has now: build it again"
            for name, digest in now.items()
            if entry.made_of.get(name) != digest
        ]

    def checked_engine(self, entry: EngineEntry) -> Path:
        """The path of an engine, after comparing it with its recorded hash; as `checked`.

        Raises:
            BundleError: the file is missing, or not the one that was built.
        """
        return self._engine(entry).check()

    def read_engine(self, entry: EngineEntry) -> bytes:
        """The content of an engine; raises as `checked_engine` does.

        An engine is executable content: no library may see one that is not the one that was built.
        """
        return self._engine(entry).read()

    def _engine(self, entry: EngineEntry) -> RecordedFile:
        path = self.path / entry.file
        if path.parent != self.path / ENGINE_FOLDER or path.suffix != ".engine":
            raise BundleError(f"the manifest of {str(self.path)!r} lists no engine {entry.file!r}")
        return RecordedFile(path, entry.sha256, "it was built", "build the engine again")


def _bundle_around(file: Path) -> str:
    """What to give instead of a file of a bundle, or nothing if it is of none."""
    for folder in (file.parent, file.parent.parent):
        if (folder / MANIFEST).is_file():
            return f" | give {str(folder)!r}"
    return ""
