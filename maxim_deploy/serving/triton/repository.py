"""Models in a repository: a folder for each, with `config.pbtxt` and numbered versions.

A model's folder is replaced in one step, configuration and versions together, so that a server
never reads one that is not whole. Every folder in a repository is a model to the server: the
unfinished one is beside the repository. Where that is not possible, as with a repository that is a
mounted volume, it is in the repository for as long as it is written, and hidden.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from maxim_deploy._files import make_folder, real_path, remove_abandoned, sha256_of, write_text
from maxim_deploy._folders import atomic_directory, tidy
from maxim_deploy._locks import locked
from maxim_deploy.errors import UsageError
from maxim_deploy.serving.triton.parts import Part
from maxim_deploy.spec.export_record import EXPORT_RECORD

CONFIG = "config.pbtxt"

_ELSEWHERE = (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
"""Why nothing can be written beside a repository, or moved from there into it."""

Change = Literal["version", "config", "nothing"]


@dataclass(frozen=True)
class Written:
    """What has become of a model in a repository.

    Attributes:
        folder: of the model.
        version: number of the version that is this bundle.
        change: "version" for a new one; "config" for new settings alone; "nothing" if both were
            there.
    """

    folder: Path
    version: int
    change: Change

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "folder": str(self.folder)}

    def __str__(self) -> str:
        said = {
            "version": f"version {self.version} is this bundle",
            "config": f"version {self.version} was this bundle already; its configuration is new",
            "nothing": f"version {self.version} was this bundle already; nothing was written",
        }
        return f"model {self.folder.name!r}: {said[self.change]}"


def write_model(repository: Path, name: str, config: str, files: Mapping[str, Part]) -> Written:
    """Add a version to a model of a repository; both are made if they are not there.

    Nothing is written if the newest version has these files and the configuration is the same.

    Args:
        repository: the folder that the server reads.
        name: of the model.
        config: text of `config.pbtxt`.
        files: of the version, by path in its folder.

    Raises:
        UsageError: the repository cannot be written to, or something else has the model's name.
        BundleError: a file of the bundle has changed.
    """
    try:
        make_folder(repository)
        model = real_path(repository) / name
        # Two writers would give one number to two versions. The folder itself must stay free: it is
        # locked for the moment in which the model takes its name.
        with locked(model.parent.parent):
            remove_abandoned(model.parent.parent)
            tidy(model)
            return _write(model, config, files)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"repository {str(repository)!r} | {str(error.filename)!r} is a file, and a folder is "
            "expected | choose another name with -o or --name"
        ) from error
    except OSError as error:
        raise UsageError(f"repository {str(repository)!r} | cannot be written: {error}") from error


def _write(model: Path, config: str, files: Mapping[str, Part]) -> Written:
    numbers = sorted(int(path.name) for path in model.glob("[1-9]*") if path.name.isdecimal())
    newest = numbers[-1] if numbers else 0
    is_there = newest > 0 and _holds(model / str(newest), files)
    if is_there and _text_of(model / CONFIG) == config:
        return Written(model, newest, "nothing")
    version = newest if is_there else newest + 1

    def fill(folder: Path) -> None:
        if model.exists():
            shutil.copytree(model, folder, copy_function=_link, dirs_exist_ok=True)
        if not is_there:
            _write_files(folder / str(version), files)
        write_text(folder / CONFIG, config, follow=False)

    _replace(model, fill)
    return Written(model, version, "config" if is_there else "version")


def _holds(folder: Path, files: Mapping[str, Part]) -> bool:
    """Whether a folder has these files; others may be there: compiled Python, caches of engines."""
    # Dates apart, equal bundles have equal manifests, with the hashes of all other files.
    wanted = {name: one for name, one in files.items() if Path(name).name != EXPORT_RECORD}
    return all(
        (folder / name).is_file() and sha256_of(folder / name) == part.sha256
        for name, part in wanted.items()
    )


def _write_files(folder: Path, files: Mapping[str, Part]) -> None:
    for name, part in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.read())


def _replace(model: Path, fill: Callable[[Path], None]) -> None:
    """Let a new folder, filled in a place of its own, take the place of the model's."""
    try:
        with atomic_directory(model, beside=model.parent) as folder:
            fill(folder)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        with atomic_directory(model) as folder:
            fill(folder)


def _link(source: str, target: str) -> None:
    """Versions do not change: another name is as good as a copy, and takes no space."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
