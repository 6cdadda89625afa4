"""Files through the network, one by one, in order; reading and writing overlap with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing

from maxim_deploy.jobs.job import FileResult, Job, Network
from maxim_deploy.jobs.progress import Tally


def run_jobs(
    jobs: Sequence[Job], network: Network, tally: Tally, cancel: threading.Event
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
    """
    with (
        ExitStack() as at_end,  # before the thread, so that it has ended when this cleans up
        # A single thread: two files wait at most, one before the network and one behind it, so
        # that three images are in memory.
        ThreadPoolExecutor(1, "maxim-deploy-files") as background,
    ):

        def finish(job: Job) -> FileResult:
            job.write()
            # Here rather than at the end: the images of a whole folder do not fit the memory.
            job.discard()
            return tally.tell_result(job.result)

        # However the block ends, what was read or restored and not written is discarded.
        for job in jobs:
            at_end.callback(job.discard)
        finishing: Future[FileResult] | None = None
        for job in _read_ahead(jobs, background):
            if cancel.is_set():
                break
            tally.tell_step(job)
            # Closed here, not when it is collected: its threads read what `discard` closes.
            with closing(job.restore(network, cancel)) as frames:
                for _ in frames:
                    tally.tell_step(job)
                    if finishing and finishing.done():  # a long video keeps no result back
                        yield finishing.result()
                        finishing = None
            # No more than one waits to be written, and what went wrong there shows.
            finished = finishing.result() if finishing else None
            finishing = background.submit(finish, job)
            if finished:
                yield finished
        if finishing:
            yield finishing.result()


def _read_ahead(jobs: Sequence[Job], background: Executor) -> Iterator[Job]:
    reading: Future[Job] | None = None
    for job in jobs:
        following = background.submit(job.read)
        if reading:
            yield reading.result()
        reading = following
    if reading:
        yield reading.result()
