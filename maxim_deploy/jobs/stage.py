"""Temporary files in place of objects: the folder for them, and the object of each file."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path

from maxim_deploy._files import Partial
from maxim_deploy.jobs.result_names import comparison_beside, incomplete_beside
from maxim_deploy.jobs.stores import StoredObject

Place = Path | StoredObject
"""A local file, or an object."""

_MOST_OF_A_NAME = 100
"""Characters of an object's name in the name of its temporary file, which make logs readable."""


class Stage:
    """A folder for the temporary files of one run, below `TMPDIR`.

    Only its user may read it. It is removed with this object. If the process is killed, the next
    process that makes a stage removes the folder.
    """

    def __init__(self) -> None:
        folder = Partial(Path(tempfile.gettempdir()) / "maxim-run", is_directory=True)
        folder.path.chmod(0o700)
        self.remove = weakref.finalize(self, folder.discard)
        self._inputs, self._results = folder.path / "in", folder.path / "out"
        self._inputs.mkdir()
        self._count = 0
        self.inputs: dict[Path, StoredObject] = {}
        self._targets: dict[str, StoredObject] = {}

    def add(self, source: Place, target: Place) -> tuple[Path, Path]:
        """Local paths for the input and the result of a file; a local path stays as it is."""
        self._count += 1
        if isinstance(source, StoredObject):
            stem, suffix = Path(source.name).stem, Path(source.name).suffix
            name = f"{self._count}-{stem[:_MOST_OF_A_NAME]}{suffix}"
            self.inputs[self._inputs / name] = source
            source = self._inputs / name
        if isinstance(target, StoredObject):
            self._targets[str(self._count)] = target
            target = self._results / f"{self._count}{Path(target.name).suffix}"
        return source, target

    def object_of(self, path: Path) -> StoredObject | None:
        """The object that a temporary file stands for; None for any other path."""
        if path in self.inputs or path.parent != self._results:
            return self.inputs.get(path)
        number, _, ending = path.name.partition(".")
        target = self._targets[number]
        # A file beside a result has its name with another ending: .before-after, .incomplete.
        name = f"{Path(target.name).stem}.{ending}"
        return target if name == target.name else target.beside(name)

    def results_of(self, target: Path) -> list[Path]:
        """The existing temporary files of a result, the result itself last."""
        paths = (comparison_beside(target), incomplete_beside(target), target)
        return [path for path in paths if self.object_of(path) and path.exists()]

    def in_words(self, text: str, source: Path, target: Path) -> str:
        """A message with the names of objects in place of temporary paths."""
        # Longer names come first: a shorter name may be the beginning of a longer one.
        for path in (source, comparison_beside(target), incomplete_beside(target), target):
            if one := self.object_of(path):
                text = text.replace(str(path), str(one))
        return text
