"""A bundle: a directory with a manifest, and its files as their hashes say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from maxim_deploy._files import write_text
from maxim_deploy._folders import read_whole, settled
from maxim_deploy._reading import read_bounded
from maxim_deploy.errors import BundleError
from maxim_deploy.spec.engines import ENGINE_FOLDER, EngineEntry
from maxim_deploy.spec.export_record import EXPORT_RECORD, ExportRecord
from maxim_deploy.spec.integrity import RecordedFile, private_folder, weights_in
from maxim_deploy.spec.manifest import EXPORT_AGAIN, MANIFEST, GraphEntry, Manifest


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its directory and its manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Read a bundle's manifest and `export.json`. No other file is opened.

        Code that opens further files runs in `read_whole`, because the bundle may be replaced
        meanwhile. A damaged `export.json` raises no error here; it sets `manifest.export.problem`.

        Raises:
            BundleError: the directory or its manifest is missing, or the manifest cannot be read.
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
                f"{str(path)!r} is a file, but a bundle is a folder{_bundle_around(folder)}"
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
        # A reader between the two writes finds a record without an engine, which is harmless. In
        # the other order it would find an engine without its record. Links are replaced, not
        # followed: their targets may belong to a store and to other bundles.
        record = self.manifest.export_record().to_json()
        write_text(self.path / EXPORT_RECORD, record, follow=False)
        write_text(self.path / MANIFEST, self.manifest.to_json(), follow=False)

    def require_export_record(self) -> None:
        """Raise an error if `export.json` cannot be read and so cannot be written again.

        Raises:
            BundleError: it is damaged, or belongs to another bundle.
        """
        if self.manifest.export.problem:
            raise BundleError(f"bundle {str(self.path)!r}: {self.manifest.export.problem}")

    def graph(self, precision: str, io: str) -> GraphEntry:
        """The entry of one graph.

        Raises:
            BundleError: the bundle has no such graph; the message lists those it has.
        """
        for entry in self.manifest.graphs:
            if (entry.precision, entry.io) == (precision, io):
                return entry
        have = ", ".join(f"{entry.precision} {entry.io}" for entry in self.manifest.graphs)
        raise BundleError(
            f"bundle {str(self.path)!r} has no {precision} graph of the {io!r} form; it has: {have}"
        )

    def tuned(self, entry: GraphEntry, library: str) -> GraphEntry:
        """The entry of the graph that a library runs fastest in place of one of `graphs`.

        It has the same input, output and weights. Without a tuned graph it is `entry` itself.
        """
        for one in self.manifest.tuned_graphs:
            if (one.of, one.library) == (entry.file, library):
                return replace(entry, file=one.file, nodes=one.nodes, measured=one.measured)
        return entry

    def checked(self, name: str) -> Path:
        """The path of a file of the bundle, after comparing it with its recorded hash.

        For files that are not read afterwards: the file may change a moment later. `read` and
            `private` return the hashed bytes.

        Raises:
            BundleError: the file is not listed, is missing, or has changed since the export.
        """
        return self._recorded(name).check()

    def read(self, name: str) -> bytes:
        """The content of a file of the bundle. Raises as `checked` does."""
        return self._recorded(name).read()

    @contextmanager
    def private(self, *names: str) -> Iterator[Path]:
        """A folder of copies for libraries that take paths only.

        It is removed at the end of the block.

        Files mapped into memory in the block stay mapped. The copies take no further memory.

        Raises:
            BundleError: as `checked` does, or a copy cannot be written.
        """
        with private_folder() as folder:
            for name in names:
                self._recorded(name).copy(folder)
            yield folder

    def checked_graph(self, entry: GraphEntry) -> Path:
        """The path of a graph, after comparing it and its weights as `checked` does.

        Raises:
            BundleError: as `private_graph` does.
        """
        with self.private_graph(entry):
            return self.path / entry.file

    @contextmanager
    def private_graph(self, entry: GraphEntry) -> Iterator[Path]:
        """The path of a copy of a graph, with its weights beside it, as `private` makes them.

        Raises:
            BundleError: as `private` does, or the graph names another file of weights, whose hash
                was not checked.
        """
        with self.private(*filter(None, [entry.file, entry.weights])) as folder:
            yield weights_in(folder / entry.file, entry.weights, EXPORT_AGAIN)

    def _recorded(self, name: str) -> RecordedFile:
        record = self.manifest.files.get(name)
        # All files except engines lie in the bundle's own folder.
        if record is None or name in ("", "..") or name != PureWindowsPath(name).name:
            raise BundleError(f"the manifest of {str(self.path)!r} lists no file {name!r}")
        return RecordedFile(self.path / name, record["sha256"], "the export", EXPORT_AGAIN)

    def digests(self, entry: GraphEntry) -> dict[str, str | None]:
        """Recorded SHA-256 of a graph and of its weights; None for weights in the graph."""
        files = self.manifest.files
        weights = files[entry.weights]["sha256"] if entry.weights else None
        return {"graph": files[entry.file]["sha256"], "weights": weights}

    def mismatches(self, entry: EngineEntry) -> list[str]:
        """Which files an engine was built from have changed since, in words; empty if none has.

        Raises:
            BundleError: the bundle has no graph of the engine's precision and form.
        """
        now = self.digests(self.graph(entry.precision, entry.io))
        return [
            f"the bundle's {name} changed since the build: build the engine again"
            for name, digest in now.items()
            if entry.made_of.get(name) != digest
        ]

    def checked_engine(self, entry: EngineEntry) -> Path:
        """The path of an engine, after comparing it with its recorded hash as `checked` does.

        Raises:
            BundleError: the file is missing, or has changed since the build.
        """
        return self._engine(entry).check()

    def read_engine(self, entry: EngineEntry) -> bytes:
        """The content of an engine. Raises as `checked_engine` does.

        An engine is executable: a library must never load one that has changed since its build.
        """
        return self._engine(entry).read()

    def _engine(self, entry: EngineEntry) -> RecordedFile:
        path = self.path / entry.file
        if path.parent != self.path / ENGINE_FOLDER or path.suffix != ".engine":
            raise BundleError(f"the manifest of {str(self.path)!r} lists no engine {entry.file!r}")
        return RecordedFile(path, entry.sha256, "it was built", "build the engine again")


def _bundle_around(file: Path) -> str:
    """Advice to pass the bundle rather than a file in it; empty if the file is in no bundle."""
    for folder in (file.parent, file.parent.parent):
        if (folder / MANIFEST).is_file():
            return f" | pass {str(folder)!r}"
    return ""
