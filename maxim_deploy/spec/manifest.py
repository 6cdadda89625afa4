"""The bundle's `manifest.json`: what is in the directory and where it came from.

Format 1, UTF-8 JSON, one object:

| key | content |
|---|---|
| `format` | 1; a reader refuses another number |
| `model` | `name`, `task`, `dataset`, `licence`, `source`, `source_sha256`; absent if unknown |
| `architecture` | `features`, `stages`, `groups`, `bottleneck_blocks` |
| `variant` | "S-2" and so on, or null for any other size |
| `settings` | what the export was asked for; equal settings on equal weights give an equal bundle |
| `graphs` | list of `GraphEntry` |
| `source` | the file with the literal weights, or null |
| `files` | per file name `sha256` and `bytes`; every file of the bundle but the manifest itself |
| `tools` | version of each library that took part |
| `command`, `created` | the command line, and the time in UTC (ISO 8601) |
| `engines` | list of `EngineEntry`; their files, in `engines/`, are not among `files` |

A reader ignores a key that it does not know, and keeps it when it writes the manifest again, as it
does to add an engine: in the object itself, `model`, `architecture`, and the records of files,
graphs and engines. So a version that adds a key which readers may do without keeps the number. One
that changes what a key says, or whose key readers must know to run the bundle rightly, raises it.

Not checked: that a graph computes what its entry says; that is what hashes and `parity` are for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from maxim_deploy._files import settled, sha256_of, write_text
from maxim_deploy.errors import BundleError
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.decoding import decoded, encoded
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.engines import ENGINE_FOLDER, EngineEntry

FORMAT = 1
MANIFEST = "manifest.json"
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
            and rounding are in the graph.
        weights: the external-data file it shares with others of its precision, or None if embedded.
        opset: version of the ONNX operator set.
        nodes: number of nodes.
        parity: how far the graph was at export from what it stands for, one record per input;
            empty if the check was skipped.
        run_bytes: memory that runs with ONNX Runtime on a CPU take, measured at export: for some
            numbers of padded pixels, the smallest first, those and the bytes; None if it was not.
        run_bytes_per_pixel: what each pixel beyond the last of them takes; None likewise.
        form: "literal", or the deployment form, "cpu" or "gpu": which exact rewrites made it. Older
            bundles have the CPU's, and do not say so.
        unknown: what only newer versions say of it, kept on rewriting.
    """

    file: str
    precision: str
    io: str
    weights: str | None
    opset: int
    nodes: int
    parity: list[dict[str, Any]] = field(default_factory=list)
    run_bytes: list[list[int]] | None = None
    run_bytes_per_pixel: float | None = None
    form: str = "cpu"
    unknown: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.run_bytes is not None and {len(run) for run in self.run_bytes} != {2}:
            raise ValueError(f"run_bytes must be pairs, not {self.run_bytes}")


@dataclass(frozen=True)
class _FileRecord:
    sha256: str
    bytes: int
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`; see the module for the format."""

    model: Descriptor
    architecture: Architecture
    settings: dict[str, Any]
    graphs: list[GraphEntry]
    source: str | None
    files: dict[str, dict[str, Any]]
    tools: dict[str, str]
    command: str
    created: str
    engines: list[EngineEntry] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)
    """What only newer versions say, by key; of `model` and `architecture` below these."""

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        document = _merged(self._document(), self.unknown)
        return json.dumps(document, indent=2) + "\n"

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
            "tools": self.tools,
            "command": self.command,
            "created": self.created,
            "engines": [encoded(engine) for engine in self.engines],
        }

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            BundleError: not JSON, another format version, or a key is missing or of a wrong type.
        """
        try:
            document = json.loads(text)
            version = document["format"]
            if version != FORMAT:
                raise BundleError(
                    f"this bundle has format {version}; this maxim-deploy reads format {FORMAT}: "
                    f"upgrade maxim-deploy, or {_EXPORT_AGAIN}"
                )
            manifest = cls._checked(document)
            return replace(manifest, unknown=_beyond(document, manifest._document()))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{MANIFEST} is damaged ({error!r}): {_EXPORT_AGAIN}") from error

    @classmethod
    def _checked(cls, document: dict[str, Any]) -> Manifest:
        """The manifest; raises KeyError, TypeError or ValueError."""
        types = get_type_hints(cls) | {"files": dict[str, _FileRecord]}

        def read(name: str) -> Any:
            value = document[name]
            if name in ("model", "architecture"):  # what is beyond their fields stays in `unknown`
                value = decoded(dict[str, Any], value, name)
                value = {
                    one.name: value[one.name] for one in fields(types[name]) if one.name in value
                }
            return decoded(types[name], value, name)

        known = {one.name: read(one.name) for one in fields(cls) if one.name != "unknown"}
        known["files"] = {name: encoded(record) for name, record in known["files"].items()}
        manifest = cls(**known)
        named = [name for graph in manifest.graphs for name in (graph.file, graph.weights)]
        for name in (*named, manifest.source):
            if name is not None and name not in manifest.files:
                raise ValueError(f"files lists no {name!r}")
        return manifest


def _beyond(document: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """What a document has and `known` has not, in objects within objects as well."""
    found = {}
    for key, value in document.items():
        if key not in known:
            found[key] = value
        elif isinstance(value, dict) and (within := _beyond(value, known[key])):
            found[key] = within
    return found


def _merged(known: dict[str, Any], beyond: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_beyond`."""
    return known | {
        key: _merged(known[key], value) if key in known else value for key, value in beyond.items()
    }


@dataclass(frozen=True)
class Bundle:
    """A bundle directory that has been opened: where it is, and what its manifest says."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Read a bundle's manifest; no other file is touched.

        Raises:
            BundleError: there is no directory, no manifest in it, or the manifest cannot be read.
        """
        folder = Path(path)
        try:
            folder = settled(folder)
            text = (folder / MANIFEST).read_text("utf-8")
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
            return cls(folder, Manifest.from_json(text))
        except BundleError as error:
            raise BundleError(f"bundle {str(path)!r}: {error}") from error

    def write(self) -> None:
        """Write the manifest into the directory."""
        write_text(self.path / MANIFEST, self.manifest.to_json())

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

    def checked(self, name: str) -> Path:
        """The path of a file of the bundle, after comparing it with its recorded hash.

        Raises:
            BundleError: the file is not listed, missing, or not the one that was exported.
        """
        record = self.manifest.files.get(name)
        if record is None or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"the manifest of {str(self.path)!r} lists no file {name!r}")
        return _unchanged(self.path / name, record["sha256"], "the export", _EXPORT_AGAIN)

    def checked_graph(self, entry: GraphEntry) -> Path:
        """The path of a graph, after comparing it and its weights with their recorded hashes.

        Raises:
            BundleError: as `checked` does.
        """
        if entry.weights:
            self.checked(entry.weights)
        return self.checked(entry.file)

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
        """The path of an engine, after comparing it with its recorded hash.

        An engine is executable content: no library may see one that is not the one that was built.

        Raises:
            BundleError: the file is missing, or not the one that was built.
        """
        path = self.path / entry.file
        if path.parent != self.path / ENGINE_FOLDER or path.suffix != ".engine":
            raise BundleError(f"the manifest of {str(self.path)!r} lists no engine {entry.file!r}")
        return _unchanged(path, entry.sha256, "it was built", "build the engine again")


def _bundle_around(file: Path) -> str:
    """What to give instead of a file of a bundle, or nothing if it is of none."""
    for folder in (file.parent, file.parent.parent):
        if (folder / MANIFEST).is_file():
            return f" | give {str(folder)!r}"
    return ""


def _unchanged(path: Path, sha256: str, made: str, advice: str) -> Path:
    if not path.is_file():
        raise BundleError(f"{str(path)!r} is missing: {advice}")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {error}") from error
    if found != sha256:
        raise BundleError(
            f"{str(path)!r} has changed since {made}: SHA-256 {found}, the manifest says {sha256}; "
            f"{advice}"
        )
    return path
