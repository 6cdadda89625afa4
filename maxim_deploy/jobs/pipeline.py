"""Files through the network, one by one, in order; reading and writing overlap with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import zip_longest

from maxim_deploy.jobs.job import FileResult, Job, Network
from maxim_deploy.jobs.progress import Tally
from maxim_deploy.machine.memory import trim


def run_jobs(
    jobs: Sequence[Job],
    network: Network,
    tally: Tally,
    cancel: threading.Event,
    has_room: Callable[[Job, int], bool] = lambda *_: True,
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
        has_room: whether so many bytes are free while the network runs on a job. Where they are
            not, the file before is written first, and the next is read afterwards.
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
        reading: Future[Job] | None = None
        before: Job | None = None
        for job, following in zip_longest(jobs, jobs[1:]):
            (reading or background.submit(job.read)).result()
            reading = None
            to_write = before.write_bytes if before else 0
            to_read = following.read_bytes if following else 0
            if finishing and not has_room(job, to_write + to_read):
                yield finishing.result()
                finishing, to_write = None, 0
                trim()
            if following and has_room(job, to_write + to_read):
                reading = background.submit(following.read)
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
            finishing, before = background.submit(finish, job), job
            if finished:
                yield finished
        if finishing:
            yield finishing.result()
