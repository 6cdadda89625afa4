"""Runs files through the network in order, while other threads read and write files.

One file is in the network at a time, in the thread that iterates. If the network has several
lanes, one image more than lanes is in it, each in its own thread. The additional image is ready
when a lane becomes free.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import zip_longest

from maxim_deploy.jobs.job import FileResult, Job, Network
from maxim_deploy.jobs.progress import Tally
from maxim_deploy.machine.memory import trim

HasRoom = Callable[[Job, int, int], bool]
"""Takes (job, bytes, runs): are these bytes free while the network runs so many jobs like it?"""


def run_jobs(
    jobs: Sequence[Job],
    network: Network,
    tally: Tally,
    cancel: threading.Event,
    has_room: HasRoom = lambda *_: True,
    choose_lanes: Callable[[Job], int] = lambda _: 1,
    abandon: Callable[[], object] = lambda: None,
) -> Iterator[FileResult]:
    """Restore in order; one thread reads the next file and writes the previous one.

    If the iterator is closed early, the file that is being written is still completed. The other
    files leave nothing behind.

    Args:
        jobs: the files.
        network: restores pixels.
        tally: counts steps and results. It gets each result in the thread that wrote it.
        cancel: once it is set, images in the network are finished, a video stops after the current
            frame, and no other file begins.
        has_room: whether memory allows work ahead. If not, the previous file is written before the
            next one is read, and fewer images are in the network.
        choose_lanes: called once, with the first file after it has been read. Returns the number
            of calls that the network takes at a time.
        abandon: ends the calls of other threads in the network and their waiting for inputs. It is
            called if this iterator is closed early or interrupted.
    """
    with (
        ExitStack() as at_end,  # entered before the thread, so it cleans up after the thread's end
        ThreadPoolExecutor(1, "maxim-deploy-files") as thread,
        _SideBySide(
            network, cancel, abandon
        ) as in_network,  # ends first: it reads what the others close
    ):
        # However the block ends, files that were read but not written are discarded.
        for job in jobs:
            at_end.callback(job.discard)
        background = _Background(thread, tally, has_room)
        lanes = 0
        for job, following in zip_longest(jobs, jobs[1:]):
            background.read(job)
            lanes = job.lanes = lanes or choose_lanes(job)
            job.abandon = abandon
            background.lanes = lanes if job.is_one_call else 1
            while in_network.must_wait(job, background):
                yield from background.write_next(in_network.first())
            yield from background.make_way(job, following)
            if cancel.is_set():
                break
            tally.tell_step(job)
            if background.lanes > 1:
                in_network.begin(job, lanes)
                continue
            # Closed here, not by the garbage collector: its threads read what `discard` closes.
            with closing(job.restore(network, cancel)) as frames:
                for _ in frames:
                    tally.tell_step(job)
                    yield from background.written()  # a long video does not delay earlier results
            yield from background.write_next(job)
        while in_network.count:
            yield from background.write_next(in_network.first())
        yield from background.written(wait=True)


class _SideBySide:
    """The images that are in the network, each in its own thread."""

    def __init__(
        self, network: Network, cancel: threading.Event, abandon: Callable[[], object]
    ) -> None:
        self._network, self._cancel, self._abandon = network, cancel, abandon
        self._threads: ThreadPoolExecutor | None = None
        self._jobs: deque[tuple[Job, Future[None]]] = deque()

    @property
    def count(self) -> int:
        """Number of images that have not been taken out."""
        return len(self._jobs)

    def must_wait(self, job: Job, background: _Background) -> bool:
        """Whether the first image must be taken out before the next job begins."""
        if not self._jobs:
            return False
        is_done = self._jobs[0][1].done()
        is_full = background.lanes == 1 or self.count > background.lanes
        return is_done or is_full or not background.fits_beside(job, self.count)

    def begin(self, job: Job, lanes: int) -> None:
        """Put a job into the network."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(lanes + 1, "maxim-deploy-network")
        self._jobs.append((job, self._threads.submit(self._restore, job)))

    def first(self) -> Job:
        """Wait for the first image and take it out."""
        job, restoring = self._jobs.popleft()
        restoring.result()
        return job

    def _restore(self, job: Job) -> None:
        for _ in job.restore(self._network, self._cancel):
            pass

    def __enter__(self) -> _SideBySide:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # A second Ctrl-C stops immediately: a picture or a download may take a minute more.
            self._abandon()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)


class _Background:
    """Reads the next file and writes the previous one, in a single thread.

    So at most two files wait, one before the network and one after it. Memory holds three images
    with one lane, and one more for each further image in the network.

    Attributes:
        lanes: runs of the network at a time.
    """

    def __init__(self, thread: Executor, tally: Tally, has_room: HasRoom) -> None:
        self._thread, self._tally, self._has_room = thread, tally, has_room
        self._reading: Future[Job] | None = None
        self._writing: tuple[Job, Future[FileResult]] | None = None
        self.lanes = 1

    def fits_beside(self, job: Job, count: int) -> bool:
        """Whether memory holds a job beside `count` others in the network."""
        # The last of them need not fit: it waits for a lane, so it has only been read.
        return self._has_room(job, 0, min(count + 1, self.lanes))

    def read(self, job: Job) -> None:
        """Wait until a file has been read, now or ahead of time."""
        reading, self._reading = self._reading, None
        (reading or self._thread.submit(job.read)).result()

    def make_way(self, job: Job, following: Job | None) -> list[FileResult]:
        """Prepare a run of the network: read the next file ahead if memory allows.

        If memory does not allow that, write the previous file first and return its result.
        """
        if job.waiting_bytes and not self._has_room(job, job.waiting_bytes, job.lanes):
            job.keep_little()
        to_write = self._writing[0].write_bytes if self._writing else 0
        to_read = job.waiting_bytes + (following.read_bytes if following else 0)
        written = []
        runs = self.lanes if job.is_one_call else job.lanes
        if self._writing and not self._has_room(job, to_write + to_read, runs):
            written, to_write = self.written(wait=True), 0
            trim()
        if following and self._has_room(job, to_write + to_read, runs):
            self._reading = self._thread.submit(following.read)
        return written

    def write_next(self, job: Job) -> list[FileResult]:
        """Start writing a job's result. Returns the result of the previous file, now written."""
        # At most one file waits to be written, and an error of writing shows here.
        written = self.written(wait=True)
        self._writing = job, self._thread.submit(self._finish, job)
        return written

    def written(self, *, wait: bool = False) -> list[FileResult]:
        """The result of the previous file if it is written; with `wait`, waits for it."""
        if self._writing is None or not (wait or self._writing[1].done()):
            return []
        (_, writing), self._writing = self._writing, None
        return [writing.result()]

    def _finish(self, job: Job) -> FileResult:
        job.write()
        # Discarded here rather than at the end: memory does not hold the images of a folder.
        job.discard()
        return self._tally.tell_result(job.result)
