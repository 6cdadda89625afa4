"""Files through the network, one by one, in order; reading and writing overlap with it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager

from maxim_deploy.jobs.job import Job, JobContext, Network, Result
from maxim_deploy.jobs.progress import Bar


def restore_all(
    jobs: Sequence[Job],
    network: Network,
    report: Callable[[Result], None],
    bar: Bar,
    say: Callable[[str], None],
) -> bool:
    """Restore in order; one thread reads the next file and writes the one before.

    Returns:
        Whether Ctrl-C was pressed; then files may be left over.
    """
    with (
        _patience(say) as asked_to_stop,
        _nothing_left(jobs),  # before the threads, so that they have ended when it cleans up
        ThreadPoolExecutor(max_workers=1) as background,
    ):

        def finish(job: Job) -> None:
            job.write()
            job.discard()
            report(job.result)
            bar.advance()

        run = JobContext(network, asked_to_stop, bar)
        finishing: Future[None] | None = None
        for job in _read_ahead(jobs, background):
            if asked_to_stop():
                break
            job.restore(run)
            if finishing:
                finishing.result()  # no more than one waits, and what went wrong there shows
            finishing = background.submit(finish, job)
        if finishing:
            finishing.result()
        return asked_to_stop()


@contextmanager
def _nothing_left(jobs: Sequence[Job]) -> Iterator[None]:
    """However the block ends, discard what was read or restored, and not written."""
    try:
        yield
    finally:
        for job in jobs:
            job.discard()


@contextmanager
def _patience(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """While the block runs, the first Ctrl-C only makes what it yields true, and says so."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.set()
        say(
            "interrupted: the current image, or frame of a video, will be finished; "
            "Ctrl-C again stops at once"
        )

    # Whoever has another handler, or ignores the signal as a job in the background does, keeps it.
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield asked.is_set
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _read_ahead(jobs: Sequence[Job], background: Executor) -> Iterator[Job]:
    reading: Future[Job] | None = None
    for job in jobs:
        following = background.submit(job.read)
        if reading:
            yield reading.result()
        reading = following
    if reading:
        yield reading.result()
