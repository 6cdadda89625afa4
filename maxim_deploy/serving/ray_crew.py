"""The workers of one run: hired, given files, replaced when they are lost, and dismissed."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from maxim_deploy._files import remove_abandoned
from maxim_deploy.errors import BackendError
from maxim_deploy.jobs.job import FileResult, Job
from maxim_deploy.jobs.progress import Tally
from maxim_deploy.serving.messages import show
from maxim_deploy.serving.ray_cluster import RayCluster
from maxim_deploy.serving.ray_tasks import PLACES, Tasks
from maxim_deploy.serving.ray_worker import Done, FileWorker, Opened, WorkerSettings

PAUSE_S = 0.2
"""Between two looks at whether the run was cancelled."""

SILENCE_S = 15.0
"""Without enough workers, after which it is said what they wait for."""

MOST_DEATHS = 3
"""Workers in a row that may die before they have loaded the network."""

PARTING_S = 5.0
"""For workers to die, so that what they left unfinished can be removed."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Member:
    """One worker: the handle of its actor, and the host that it turned out to be on."""

    handle: Any
    node: str = ""
    is_ready: bool = False


@dataclass(frozen=True)
class _Answer:
    """The end of a call: to `open`, or to `restore` of a file."""

    member: _Member
    file: int | None
    outcome: Any
    error: BaseException | None


@dataclass(eq=False)
class Crew:
    """The workers of a run, and what they have to do.

    Attributes:
        cluster: where they are.
        settings: what each is told.
        jobs: the files.
        tally: is told of each step and result.
        least: workers that must be ready before a file begins.
        members: those that live, or wait for room.
    """

    cluster: RayCluster
    settings: WorkerSettings
    jobs: Sequence[Job]
    tally: Tally
    least: int
    members: list[_Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tasks = Tasks([not job.is_one_call for job in self.jobs])
        # Answers come in threads of Ray's. Signals reach the thread that waits for them here.
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._deaths = 0
        self._refusals: list[Opened] = []
        self._has_begun = self._is_stopping = False
        self._said: set[str] = set()
        self._lost_files: set[int] = set()
        self._waits_from: float | None = time.monotonic()

    def results(self, cancel: threading.Event) -> Iterator[FileResult]:
        """Restore all files, or those that have begun when `cancel` is set."""
        for _ in range(min(self.settings.most, len(self.jobs))):
            self._hire()
        while not self._tasks.is_empty:
            if cancel.is_set():
                self._stop()
                if not self._tasks.is_under_way:
                    return
            try:
                answer = self._answers.get(timeout=PAUSE_S)
            except queue.Empty:
                self._say_what_is_waited_for()
                continue
            # What sets it may also have ended a worker. No other takes its place then.
            if cancel.is_set():
                self._stop()
            result = self._taken(answer)
            if result:
                yield self.tally.tell_result(result)

    def dismiss(self) -> None:
        """End all workers; what they were at leaves nothing behind."""
        # Those that wait for room first, or they would begin in the room of the others.
        for member in sorted(self.members, key=lambda member: member.is_ready):
            self.cluster.end(member.handle)
        until = time.monotonic() + PARTING_S
        while self._tasks.is_under_way and (left := until - time.monotonic()) > 0:
            try:
                answer = self._answers.get(timeout=left)
            except queue.Empty:
                break
            if answer.file is not None:
                self._tasks.done(answer.member, answer.file)
                self._lost_files.add(answer.file)
        for folder in {self.jobs[file].target.parent for file in self._lost_files}:
            remove_abandoned(folder)

    def _hire(self) -> None:
        """Ask for one more worker; it opens the bundle once the cluster has room for it."""
        member = _Member(self.cluster.actor(FileWorker, PLACES + 1, self.settings))
        self.members.append(member)
        self._call(member, None, lambda: member.handle.open.remote())

    def _call(self, member: _Member, file: int | None, call: Callable[[], Any]) -> None:
        """Begin a call, whose end will be among the answers."""

        def put(future: Any) -> None:
            error = future.exception()
            outcome = None if error else future.result()
            self._answers.put(_Answer(member, file, outcome, error))

        call().future().add_done_callback(put)

    def _taken(self, answer: _Answer) -> FileResult | None:
        """Act on an answer; the result of a file that has one now."""
        if answer.error and self.cluster.is_loss(answer.error):
            return self._lost(answer)
        if answer.file is not None:
            self._tasks.done(answer.member, answer.file)
        if answer.error:
            raise answer.error  # a bug of ours in the worker
        if answer.file is None:
            self._opened(answer.member, answer.outcome)
            return None
        done: Done = answer.outcome
        show(done.log)
        self._give_work()
        return _recorded(self.jobs[answer.file], done)

    def _opened(self, member: _Member, opened: Opened) -> None:
        """A worker has loaded the network, or has found out that it cannot."""
        show(opened.log, self._said)
        self._deaths = 0
        member.node = opened.node
        if opened.problem is None:
            member.is_ready = True
        else:
            # Another would refuse there too, so none takes its place.
            self._refusals.append(opened)
            self._part_with(member)
            if not self.members:
                raise self._refusals[0].problem or opened.problem
        if any(one.is_ready for one in self.members):
            for one in self._refusals:
                self._warn_once(f"no worker on '{one.node}': {one.problem}")
        self._give_work()

    def _lost(self, answer: _Answer) -> FileResult | None:
        """A worker is dead, or cannot be reached any more; its files come back one by one."""
        member, file = answer.member, answer.file
        logger.debug("a worker on '%s' was lost: %s", member.node, answer.error)
        result = None
        if file is not None:
            self._lost_files.add(file)
            if not self._tasks.lost(member, file):
                result = self._given_up(file)
        if member in self.members:
            self._part_with(member)
            self._replace(answer)
        self._give_work()
        return result

    def _replace(self, lost: _Answer) -> None:
        """Hire another worker, unless one after the other dies before it can do anything."""
        if lost.file is None:
            self._deaths += 1
            if self._deaths >= MOST_DEATHS:
                if not self.members:
                    raise BackendError(
                        f"Ray workers | {self._deaths} died before they had loaded the network | "
                        f"{_first_line(lost.error)}"
                    )
                return
        elif not self._is_stopping:
            logger.warning(
                "a worker on '%s' was lost; what it was restoring is restored again",
                lost.member.node,
            )
        if not self._is_stopping:
            self.cluster.check_is_there()
            self._hire()

    def _given_up(self, file: int) -> FileResult:
        count = self._tasks.losses_of(file)
        why = BackendError(
            f"{count} workers were lost while they restored it | give workers more memory or set "
            "--max-memory, or restore it without --ray to see why"
        )
        return FileResult.failure(self.jobs[file].source, why)

    def _part_with(self, member: _Member) -> None:
        self.members.remove(member)
        # One that cannot be reached may live, and would go on writing.
        self.cluster.end(member.handle)

    def _give_work(self) -> None:
        """Fill the places of all workers that are ready."""
        ready = [member for member in self.members if member.is_ready]
        least = min(self.least, len(self.members))
        if self._is_stopping or (not self._has_begun and len(ready) < least):
            return
        if not ready:
            return
        self._has_begun, self._waits_from = True, None
        for member in ready:
            while (file := self._tasks.next_for(member)) is not None:
                self._send(member, file)

    def _send(self, member: _Member, file: int) -> None:
        job = self.jobs[file]
        self.tally.tell_step(job)
        bare, keeps = replace(job, record=None), job.record is not None
        self._call(member, file, lambda: member.handle.restore.remote(bare, keeps))

    def _stop(self) -> None:
        """Let workers finish what is in the network; once."""
        if self._is_stopping:
            return
        self._is_stopping = True
        for member in self.members:
            if member.is_ready:
                member.handle.stop.remote()

    def _say_what_is_waited_for(self) -> None:
        if self._waits_from is None or time.monotonic() - self._waits_from < SILENCE_S:
            return
        self._waits_from = None
        ready = sum(member.is_ready for member in self.members)
        logger.warning(
            "%d of %d workers are ready, and %d are needed to begin: %s",
            *(ready, len(self.members), self.least, self.cluster.describe_room()),
        )

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)


def _recorded(job: Job, done: Done) -> FileResult | None:
    """The result, once the record has what is finished; failed if the record cannot be written."""
    result = done.result
    try:
        for finished in done.finished:
            if job.record:
                job.record.add(finished)
    except OSError as error:
        if result:
            result.output, result.status = None, "failed"
            result.fail(error)
    return result


def _first_line(error: BaseException | None) -> str:
    """What Ray says, without the identifiers that follow."""
    return str(error).strip().partition("\n")[0]
