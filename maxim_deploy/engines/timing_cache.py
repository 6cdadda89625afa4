"""The timing cache of full TensorRT as a file: measurements of builds for later builds.

The file has the format of `maxim_deploy.engines.library_file`. If it is set aside, the build goes
on without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maxim_deploy._progress import Progress
from maxim_deploy.engines.library_file import LibraryFile
from maxim_deploy.errors import EngineError, UsageError
from maxim_deploy.machine.file_locks import file_lock


class TimingCacheFile:
    """A timing cache on disk, shared by builders of one library version and one GPU model.

    Args:
        path: the file, which need not exist.
        library: the library and its version.
        gpu: name of the GPU.
        progress: called when a file is set aside.
    """

    def __init__(self, path: Path, library: str, gpu: str, progress: Progress) -> None:
        self._file = LibraryFile(path, "timing cache", library, gpu, progress)

    def load(self, config: Any) -> Any:
        """A `trt.ITimingCache` with the file's usable content, which may be empty.

        Raises:
            UsageError: the file cannot be read.
            EngineError: the file could not be written after the build.
        """
        with self._locked():
            return config.create_timing_cache(self._payload())

    def merge(self, config: Any, cache: Any) -> None:
        """Merge the measurements of a build into the present file.

        Raises:
            EngineError: the file cannot be written.
        """
        with self._locked():
            # Read again: another build may have written meanwhile.
            on_disk = self._payload()
            if on_disk:
                cache.combine(config.create_timing_cache(on_disk), False)
            self._file.write(bytes(memoryview(cache.serialize())))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """A lock between processes: a file beside the cache, where users can write."""
        try:
            with file_lock(self._file.path.with_name(self._file.path.name + ".lock")):
                yield
        except OSError as error:
            raise EngineError(
                f"cannot write the timing cache {str(self._file.path)!r}: {error}"
            ) from error

    def _payload(self) -> bytes:
        try:
            return self._file.read()
        except OSError as error:
            raise UsageError(
                f"cannot read the timing cache {str(self._file.path)!r}: {error}"
            ) from error
