"""What a worker on a node does: it reads, restores and writes files whose paths it is sent.

It needs no Ray: an actor is this class, and its methods are called by several threads at once.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxim_deploy import runtime
from maxim_deploy.errors import BackendError, BundleError, MaximDeployError, UsageError, quoted
from maxim_deploy.jobs.calls import Calls
from maxim_deploy.jobs.job import FileResult, Job
from maxim_deploy.jobs.record import FinishedFile, FinishedFiles
from maxim_deploy.machine.memory import available_bytes, trim
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.serving.messages import MessageQueue

PATIENCE_S = 10.0
"""For a file that another host has just made to be seen here, over NFS."""

IDENTITY = ("maxim_deploy", "bundle")
"""The settings that all nodes must share: the version of this package, the hash of the bundle."""


@dataclass(frozen=True)
class WorkerSettings:
    """What all workers of a run are told.

    Attributes:
        bundle: its path.
        load_options: of `load`.
        rounding: as in a call of `Restorer`.
        self_ensemble: as in a call of `Restorer`.
        folder: that relative paths begin in; None if there are none.
        witness: a file beside the results, which shows that both see the same folder.
        identity: the settings of `IDENTITY` where the run began.
        most: workers of the run.
        gpus: that a worker has.
        log_level: of the messages to send back.
    """

    bundle: Path
    load_options: dict[str, Any]
    rounding: str
    self_ensemble: bool
    folder: Path | None
    witness: Path
    identity: dict[str, Any]
    most: int
    gpus: float
    log_level: int


@dataclass(frozen=True)
class Opened:
    """How a worker has opened the bundle.

    Attributes:
        node: the name of its host.
        problem: why it cannot work, or None.
        log: messages.
    """

    node: str
    problem: MaximDeployError | None
    log: list[logging.LogRecord]


@dataclass(frozen=True)
class Done:
    """What became of a file.

    Attributes:
        result: None if it had not begun when the run was cancelled. Without its `cause`.
        finished: what the record should hold.
        log: messages since the last answer.
    """

    result: FileResult | None
    finished: list[FinishedFile] = field(default_factory=list)
    log: list[logging.LogRecord] = field(default_factory=list)


class FileWorker:
    """Restores files with one `Restorer`: one is in the network while others are read or written.

    On a GPU as many are in it as it has lanes.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._restorer: runtime.Restorer | None = None
        self._cancel = threading.Event()
        self._door, self._network = threading.Lock(), threading.Semaphore()
        self._changed = threading.Condition()
        self._inside: dict[int, Job] = {}
        self._log = MessageQueue(settings.log_level)

    def open(self) -> Opened:
        """Load the network; called once, before the others."""
        problem = None
        try:
            self._go_to_folder()
            self._check_folder_is_shared()
            self._restorer = runtime.load(self._settings.bundle, **self._load_options())
            self._network = threading.Semaphore(self._restorer.info.lanes)
            self._check_identity(self._restorer.info.settings)
        except MaximDeployError as error:
            problem = error
        except OSError as error:
            problem = BackendError(str(error))
        return Opened(platform.node(), problem, self._log.taken())

    def restore(self, job: Job, keeps: bool) -> Done:
        """Restore one file, from reading to writing.

        Args:
            job: without a record.
            keeps: whether to say what a record should hold.
        """
        record = FinishedFiles() if keeps else None
        job.record = record
        has_begun = self._restore(job)
        # An exception of any library may refuse to be pickled; its text is in the result.
        job.result.cause = None
        finished = record.finished if record else []
        return Done(job.result if has_begun else None, finished, self._log.taken())

    def stop(self) -> None:
        """Finish the picture, or frame of a video, that is in the network, and begin no other."""
        self._cancel.set()

    def _restore(self, job: Job) -> bool:
        """Whether it has begun before the run was cancelled."""
        restorer = self._restorer
        assert restorer is not None
        options = {
            "rounding": self._settings.rounding,
            "self_ensemble": self._settings.self_ensemble,
        }
        with self._admitted(job):
            # Waiting for a turn here is no part of a file's time in the network.
            with self._network:
                if self._cancel.is_set():
                    return False
                for _ in job.restore(Calls(restorer, **options), self._cancel):
                    pass
            job.write()
        return True

    @contextmanager
    def _admitted(self, job: Job) -> Iterator[None]:
        """Read a job once there is memory for it beside those that are here."""
        with self._door:  # one at a time reads, so that those inside have been read
            with self._changed:
                if not self._has_room(job.read_bytes):
                    trim()
                self._changed.wait_for(lambda: not self._inside or self._has_room(job.read_bytes))
                self._inside[id(job)] = job
            try:
                job.read()
            except BaseException:
                self._leave(job)
                raise
        try:
            if job.waiting_bytes and not self._has_room(job.waiting_bytes):
                job.keep_little()
            yield
        finally:
            self._leave(job)

    def _leave(self, job: Job) -> None:
        job.discard()
        with self._changed:
            del self._inside[id(job)]
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        """Whether so many bytes are free while the network runs on the largest that is here."""
        restorer = self._restorer
        assert restorer is not None
        jobs = list(self._inside.values())
        sizes = [(x.result.height, x.result.width) for x in jobs]
        known = [(height, width) for height, width in sizes if height and width]
        if not known:
            return True
        height, width = max(known, key=lambda size: size[0] * size[1])
        size += sum(job.write_bytes for job in jobs)
        return restorer.has_room(
            size, height, width, self_ensemble=self._settings.self_ensemble, runs=1
        )

    def _load_options(self) -> dict[str, Any]:
        """Those that were given, and the worker's share of the machine."""
        options = dict(self._settings.load_options)
        if self._settings.gpus:
            return options  # Ray shows the worker one GPU, which is number 0 then
        options["lanes"] = 1
        # A worker without a GPU must not find one by itself: all workers of the node would.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        options.setdefault("threads", 1)
        neighbours = min(self._settings.most, max(1, usable_processors() // options["threads"]))
        if neighbours > 1:
            # Each would otherwise plan with all memory that is free.
            options.setdefault("max_memory", available_bytes() // neighbours)
        return options

    def _go_to_folder(self) -> None:
        folder = self._settings.folder
        if folder is None:
            return
        try:
            os.chdir(folder)
        except OSError as error:
            raise UsageError(
                f"folder {quoted(folder)} | is not on every node: {error.strerror} | run the "
                "command in a folder that all nodes share, or give absolute paths"
            ) from error

    def _check_folder_is_shared(self) -> None:
        witness, waited_from = self._settings.witness, time.monotonic()
        while not witness.exists():
            if time.monotonic() - waited_from > PATIENCE_S:
                raise UsageError(
                    f"output folder {quoted(witness.parent)} | is not the same on every node | "
                    "name a folder that all nodes share with -o"
                )
            time.sleep(0.1)

    def _check_identity(self, settings: dict[str, Any]) -> None:
        there = self._settings.identity
        differ = [name for name in IDENTITY if settings.get(name) != there.get(name)]
        if differ:
            found = ", ".join(f"{name} {settings.get(name)}" for name in differ)
            expected = ", ".join(f"{name} {there.get(name)}" for name in differ)
            raise BundleError(
                f"bundle {quoted(self._settings.bundle)} | found {found} | expected {expected}, "
                "as where the command runs | install the same version, and copy the same bundle"
            )
