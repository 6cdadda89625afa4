"""Restores objects of a store through temporary files, with downloads ahead and uploads behind.

    download, 4 ahead -> temporary -> a run of files -> temporary -> upload, 4 behind

An upload is one request, or parts that the store joins after the last one. So an object is either
replaced as a whole or unchanged. A result is reported once it and its record are stored.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from maxim_deploy.errors import MaximDeployError, StoreError, UsageError, quoted
from maxim_deploy.imaging.video.names import has_video_suffix
from maxim_deploy.jobs.downloads import Downloads
from maxim_deploy.jobs.job import FileResult
from maxim_deploy.jobs.object_record import CarriedRecord, ObjectRecords
from maxim_deploy.jobs.progress import FileProgress
from maxim_deploy.jobs.result_names import incomplete_beside
from maxim_deploy.jobs.shards import Shard
from maxim_deploy.jobs.stage import Place, Stage
from maxim_deploy.jobs.stores import StoredObject

BEHIND = 4
"""Results that are uploaded at a time, or wait for their upload, while the network continues."""

logger = logging.getLogger(__name__)


class ObjectCarrier:
    """The `Carrier` of a plan with objects; for one run.

    Args:
        root: the prefix above the records; None if results are files.
        shard: shard of the run; None for all files.

    Attributes:
        records: records of results that are objects; None if results are files.
    """

    def __init__(self, root: StoredObject | None, shard: Shard | None) -> None:
        self.records = ObjectRecords(root, shard) if root else None
        self._stage = Stage()
        self._downloads: Downloads | None = None
        self._targets: dict[Path, Path] = {}
        self._lines: dict[Path, dict[str, Any]] = {}
        self._uploads = ThreadPoolExecutor(BEHIND, "maxim-deploy-upload")
        self._ends: dict[int, Future[FileResult]] = {}
        self._interrupted, self._telling = threading.Event(), threading.Lock()
        self._tell: Callable[[FileProgress], object] | None = None
        self._done = self._total = 0
        self._is_new = self._keeps_records = True

    def stage(self, source: Place, target: Place) -> tuple[Path, Path]:
        """Add a file to the plan; returns the paths of its input and its result.

        A temporary file stands for each of the two that is an object.
        """
        staged, result = self._stage.add(source, target)
        self._targets[staged] = result
        return staged, result

    def object_of(self, path: Path) -> StoredObject | None:
        """The object that a temporary file stands for; None for any other file."""
        return self._stage.object_of(path)

    def remember(self, line: dict[str, Any], outputs: list[Path]) -> None:
        """Keep a line to record once its outputs are stored."""
        self._lines[outputs[0]] = line

    def begin(self, progress: Callable[[FileProgress], object] | None) -> None:
        """As `Carrier.begin`. Raises UsageError if the plan has been run before."""
        if not self._is_new:
            raise UsageError("a plan with URLs is for one run | plan the files again")
        self._is_new, self._tell = False, progress
        if self.records:
            self.records.check_writable()
        sizes = {path: one.size for path, one in self._stage.inputs.items()}
        self._downloads = Downloads(self._fetch, sizes)

    def record(self, settings: dict[str, Any], shard: Shard | None) -> CarriedRecord:
        """As `Carrier.record`."""
        return CarriedRecord(settings, shard, self)

    def bring(self, source: Path) -> None:
        """As `Carrier.bring`."""
        assert self._downloads
        self._downloads.bring(source)

    def _fetch(self, path: Path, stop: threading.Event) -> None:
        one = self._stage.inputs[path]
        one.store.download(one, path, stop)

    def follow(self, step: FileProgress) -> None:
        """As `Carrier.follow`: report a step, or start the upload of a result."""
        self._total = step.files_total
        if step.result is None:
            with self._telling:
                if self._tell:
                    file = self._shown_as(step.file)
                    self._tell(replace(step, file=file, files_done=self._done))
            return
        # Another thread uploads: this one reads and writes the other files.
        self._ends[id(step.result)] = self._uploads.submit(self._end, step.result)

    def _shown_as(self, source: Path) -> Path:
        """The path that a progress step shows for an input; for an object, its name."""
        one = self.object_of(source)
        return Path(one.name) if one else source

    def _end(self, result: FileResult) -> FileResult:
        """Upload the files of a result, and report the result."""
        assert self._downloads
        source = Path(result.input)
        if source in self._targets:
            self._downloads.release(source)
            target = self._targets.pop(source)
            self._name(result, source, target)
            try:
                self._put(target)
            except (MaximDeployError, OSError) as error:
                result.status, result.output = "failed", None
                result.fail(error)
            finally:
                for path in self._stage.results_of(target):
                    path.unlink(missing_ok=True)
        with self._telling:
            self._done += 1
            # A file that a second Ctrl-C ended is not reported as failed.
            if self._tell and not self._interrupted.is_set():
                file = self._shown_as(source)
                self._tell(FileProgress(file, self._done, self._total, result=result))
        return result

    def _name(self, result: FileResult, source: Path, target: Path) -> None:
        """Replace the temporary paths in a result by the names of their objects."""
        result.input = str(self.object_of(source) or source)
        if result.output:
            result.output = str(self.object_of(target) or target)
        if result.error:
            result.error = self._stage.in_words(result.error, source, target)
            if os.strerror(errno.ENOSPC) in result.error:
                folder = quoted(tempfile.gettempdir())
                result.error += f" | temporary files are in {folder}; set TMPDIR to another folder"

    def _put(self, target: Path) -> None:
        paths = self._stage.results_of(target)
        stored = []
        for path in paths:
            one = self.object_of(path)
            assert one
            stored.append(one.store.upload(path, one, self._interrupted))
        line = self._lines.pop(target, None)
        if self.records and line and target in paths:
            names = {self.records.name_of(one): one.version for one in stored[::-1]}
            if None not in names.values():
                self.records.add({**line, "outputs": names})
        if target in paths and has_video_suffix(target):
            self._remove_incomplete(target)

    def _remove_incomplete(self, target: Path) -> None:
        """Remove the frames that an earlier run kept: the whole video replaces them."""
        one = self.object_of(incomplete_beside(target))
        assert one
        try:
            one.store.remove(one)
        except StoreError as error:
            logger.warning("%s", error)

    def abandon(self) -> None:
        """As `Carrier.abandon`."""
        assert self._downloads
        self._downloads.stop()

    def deliver(self, results: Generator[FileResult]) -> Generator[FileResult]:
        """As `Carrier.deliver`. If it is closed early, started uploads are still completed."""
        assert self._downloads
        waiting: deque[Future[FileResult]] = deque()
        try:
            with closing(results):
                for result in results:
                    waiting.append(self._ends.pop(id(result)))
                    while waiting and (len(waiting) > BEHIND or waiting[0].done()):
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except GeneratorExit:
            raise
        except BaseException:
            # A second Ctrl-C. A large upload may take minutes more, and other uploads wait for it.
            self._interrupted.set()
            self._uploads.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            self._downloads.close()
            self._uploads.shutdown()
            self._stage.remove()
