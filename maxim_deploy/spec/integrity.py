"""Check that a file of a bundle is the one that the manifest lists.

A path may be a link, and its target may change at any time. So a file is opened once, and a library
gets exactly the bytes that were hashed: in memory, or as a copy in a folder that no other user can
write to. A library that opened the path again might find another file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from maxim_deploy._reading import open_regular
from maxim_deploy.errors import BundleError
from maxim_deploy.spec.onnx_locations import weights_files

_CHUNK = 1 << 20


@dataclass(frozen=True)
class RecordedFile:
    """A file and its recorded hash.

    Attributes:
        path: path of a file, or of a link to one.
        sha256: the recorded hash, 64 hexadecimal digits.
        made: when it was recorded, for messages: "the export".
        advice: how to get the file that was recorded.
    """

    path: Path
    sha256: str
    made: str
    advice: str

    def check(self) -> Path:
        """The path, after checking its present content. For files that are not read afterwards.

        Raises:
            BundleError: it is missing, not a regular file, unreadable, or has another hash.
        """
        with self._opened() as file:
            self._compare(hashlib.file_digest(file, "sha256").hexdigest())
        return self.path

    def read(self) -> bytes:
        """The content. Raises as `check` does."""
        with self._opened() as file:
            content = file.read()
            self._compare(hashlib.sha256(content).hexdigest())
        return content

    def copy(self, folder: Path) -> Path:
        """A copy with the same name in a folder. Raises as `check` does, and if writing fails."""
        digest, target = hashlib.sha256(), folder / self.path.name
        with self._opened() as file, _written(target) as copy:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                copy(chunk)
            self._compare(digest.hexdigest())
        return target

    @contextmanager
    def _opened(self) -> Iterator[BufferedReader]:
        path = self.path
        try:
            with open_regular(path) as file:
                yield file
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(self._missing()) from None
        except OSError as error:
            raise BundleError(f"cannot read {str(path)!r}: {error}; {self.advice}") from error

    def _missing(self) -> str:
        try:
            target = str(self.path.readlink())
        except OSError:  # no link
            return f"{str(self.path)!r} is missing: {self.advice}"
        return (
            f"{str(self.path)!r} is a link to {target!r}, which is not there: fetch it with the "
            "tool that made the link"
        )

    def _compare(self, found: str) -> None:
        if found != self.sha256:
            raise BundleError(
                f"{str(self.path)!r} has changed since {self.made}: SHA-256 {found}, the manifest "
                f"says {self.sha256}; {self.advice}"
            )


@contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder that only this user can enter. It is removed at the end of the block.

    Raises:
        BundleError: no folder can be made.
    """
    try:
        # Windows cannot remove a file that is mapped into memory.
        made = TemporaryDirectory(prefix="maxim-deploy-", ignore_cleanup_errors=True)
    except OSError as error:
        raise BundleError(
            f"cannot make a folder in {gettempdir()!r} for files of the bundle: {error}; "
            f"{_SET_TMPDIR}"
        ) from error
    with made as folder:
        yield Path(folder)


@contextmanager
def _written(target: Path) -> Iterator[Callable[[bytes], None]]:
    """A function that writes to a new file. Its errors name the copy, not the original."""

    def write(chunk: bytes) -> None:
        try:
            file.write(chunk)
            file.flush()
        except OSError as error:
            raise _no_copy(target, error) from error

    try:
        file = target.open("xb")
    except OSError as error:
        raise _no_copy(target, error) from error
    with file:
        yield write


def _no_copy(target: Path, error: OSError) -> BundleError:
    folder = str(target.parent)
    return BundleError(f"cannot copy {target.name!r} into {folder!r}: {error}; {_SET_TMPDIR}")


_SET_TMPDIR = "set TMPDIR to a folder with enough space"


def weights_in(graph: Path, weights: str | None, advice: str) -> Path:
    """`graph`, after checking that it reads weights only from the file that the manifest lists.

    Args:
        graph: the ONNX file.
        weights: the bare name of that file; None if the weights are in the graph.
        advice: what to do after an error.

    Raises:
        BundleError: it is not an ONNX file, or it names another file, whose hash was not checked.
    """
    try:
        named = weights_files(graph)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{graph.name!r} is not an ONNX graph ({error}); {advice}") from error
    if strange := named - {weights}:
        expected = repr(weights) if weights else "all weights in the graph"
        raise BundleError(
            f"{graph.name!r} keeps weights in {min(strange)!r}; expected {expected}, as the "
            f"manifest says; {advice}"
        )
    return graph
