"""Files through the network, one by one, in order; reading and writing overlap with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import zip_longest

from maxim_deploy.jobs.job import FileResult, Job, Network
from maxim_deploy.jobs.progress import Tally
from maxim_deploy.machine.memory import trim

HasRoom = Callable[[Job, int], bool]
"""Whether so many bytes are free while the network runs on a job."""


def run_jobs(
    jobs: Sequence[Job],
    network: Network,
    tally: Tally,
    cancel: threading.Event,
    has_room: HasRoom = lambda *_: True,
) -> Iterator[FileResult]:
    """Restore in order; one thread reads the next file and writes the one before.

    The network runs in the thread that iterates. If the iterator is closed early, a file that the
    network has left is still written, and nothing remains of the others.

    Args:
        jobs: the files.
        network: restores pixels.
        tally: is told of each step; of results in the thread that has written them.
        cancel: once it is set, the current image is finished, a video stops after the frame, and
            no other file begins.
        has_room: where it says no, the file before is written first, and the next read afterwards.
    """
    with (
        ExitStack() as at_end,  # before the thread, so that it has ended when this cleans up
        ThreadPoolExecutor(1, "maxim-deploy-files") as thread,
    ):
        # However the block ends, what was read or restored and not written is discarded.
        for job in jobs:
            at_end.callback(job.discard)
        background = _Background(thread, tally, has_room)
        for job, following in zip_longest(jobs, jobs[1:]):
            background.read(job)
            yield from background.make_way(job, following)
            if cancel.is_set():
                break
            tally.tell_step(job)
            # Closed here, not when it is collected: its threads read what `discard` closes.
            with closing(job.restore(network, cancel)) as frames:
                for _ in frames:
                    tally.tell_step(job)
                    yield from background.written()  # a long video keeps no result back
            # No more than one waits to be written, and what went wrong there shows.
            written = background.written(wait=True)
            background.write(job)
            yield from written
        yield from background.written(wait=True)


class _Background:
    """Reads the next file and writes the one before, in a single thread.

    So two files wait at most, one before the network and one behind it: three images in memory.
    """

    def __init__(self, thread: Executor, tally: Tally, has_room: HasRoom) -> None:
        self._thread, self._tally, self._has_room = thread, tally, has_room
        self._reading: Future[Job] | None = None
        self._writing: tuple[Job, Future[FileResult]] | None = None

    def read(self, job: Job) -> None:
        """Wait until a file has been read; it may have been read ahead."""
        reading, self._reading = self._reading, None
        (reading or self._thread.submit(job.read)).result()

    def make_way(self, job: Job, following: Job | None) -> list[FileResult]:
        """Before the network runs on a job: read the next file ahead, if memory allows.

        If it does not, the file before is written now, and its result returned.
        """
        if job.waiting_bytes and not self._has_room(job, job.waiting_bytes):
            job.keep_little()
        to_write = self._writing[0].write_bytes if self._writing else 0
        to_read = job.waiting_bytes + (following.read_bytes if following else 0)
        written = []
        if self._writing and not self._has_room(job, to_write + to_read):
            written, to_write = self.written(wait=True), 0
            trim()
        if following and self._has_room(job, to_write + to_read):
            self._reading = self._thread.submit(following.read)
        return written

    def write(self, job: Job) -> None:
        """Begin to write what was restored; the file before has been written."""
        self._writing = job, self._thread.submit(self._finish, job)

    def written(self, *, wait: bool = False) -> list[FileResult]:
        """The result of the file that was being written, if it is whole, or after waiting."""
        if self._writing is None or not (wait or self._writing[1].done()):
            return []
        (_, writing), self._writing = self._writing, None
        return [writing.result()]

    def _finish(self, job: Job) -> FileResult:
        job.write()
        # Here rather than at the end: the images of a whole folder do not fit the memory.
        job.discard()
        return self._tally.tell_result(job.result)
