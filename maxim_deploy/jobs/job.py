"""One file on its way through `maxim-run`, read, restored and written; and an image as one."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from maxim_deploy.errors import MaximDeployError
from maxim_deploy.imaging import files
from maxim_deploy.imaging.picture import Picture, Pixels
from maxim_deploy.imaging.video.names import is_video
from maxim_deploy.jobs.progress import Bar
from maxim_deploy.jobs.record import Fingerprint, ResumeRecord

Network = Callable[[Pixels], Pixels]

logger = logging.getLogger(__name__)


@dataclass
class Result:
    """What became of one file; the fields are those of a line of `--json`.

    `status` is "restored", "failed", or "finished" for what `--resume` found done. `seconds` were
    spent on this file, reading and writing included, `network_seconds` of them in the network.
    Files overlap, so that the seconds of all add up to more than has passed. Of videos, `frames`
    counts those that were restored, and `fps` how many of them in a second of `seconds`.
    """

    input: str
    output: str | None = None
    status: str = "failed"
    error: str | None = None
    height: int | None = None
    width: int | None = None
    seconds: float = 0.0
    network_seconds: float = 0.0
    frames: int | None = None
    fps: float | None = None

    def fail(self, why: object) -> None:
        """Set the error; it names the input even where the exception does not know it."""
        text = str(why)
        kind = "video" if is_video(Path(self.input)) else "image"
        self.error = text if f"'{self.input}'" in text else f"{kind} '{self.input}' | {text}"


@dataclass(frozen=True)
class JobContext:
    """What files are restored with.

    Attributes:
        network: from RGB pixels to restored ones.
        asked_to_stop: whether Ctrl-C was pressed.
        bar: shows how far it is.
    """

    network: Network
    asked_to_stop: Callable[[], bool]
    bar: Bar


@dataclass
class Job(ABC):
    """One file on its way through reading, the network and writing; after an error it stands.

    Attributes:
        source: the input file.
        target: the output file.
        comparison: where to put before and after side by side, if anywhere.
        record: takes note of what is finished, if anybody wants to know.
    """

    source: Path
    target: Path
    comparison: Path | None = None
    record: ResumeRecord | None = None
    fingerprint: Fingerprint | None = None

    def __post_init__(self) -> None:
        self.result = Result(str(self.source))

    @property
    def outputs(self) -> list[Path]:
        """All files that this job writes."""
        return [self.target, self.comparison] if self.comparison else [self.target]

    def is_finished(self) -> bool:
        """Whether an earlier run has done this very thing, and nothing has changed since."""
        with self._step():
            if self.record and self.record.has(self.source, self.outputs):
                self.result.output, self.result.status = str(self.target), "finished"
                return True
        return False

    def read(self) -> Self:
        """Read the input, or open it, and check what can be checked before the network works."""
        with self._step():
            if self.record:
                # Before the pixels: a file that changes while it is read will be restored again.
                self.fingerprint = Fingerprint.of(self.source)
            self._read()
        return self

    @abstractmethod
    def _read(self) -> None: ...

    @abstractmethod
    def restore(self, run: JobContext) -> None:
        """Restore what was read, if anything was."""

    @abstractmethod
    def write(self) -> None:
        """Put what was restored, if anything was, under its final name."""

    @abstractmethod
    def discard(self) -> None:
        """Let go of what was read or restored; what is under its final name stays."""

    def _note_success(self) -> None:
        """The outputs are whole under their names."""
        if self.record and self.fingerprint:
            self.record.note(self.fingerprint, self.outputs)
        self.result.output, self.result.status = str(self.target), "restored"

    @contextmanager
    def _step(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except (MaximDeployError, MemoryError, OSError) as error:
            self.result.fail(str(error) or "not enough memory")
        finally:
            self.result.seconds += time.perf_counter() - started


@dataclass
class ImageJob(Job):
    """An image, whole in memory."""

    picture: Picture | None = None
    restored: Pixels | None = None

    def _read(self) -> None:
        picture = files.read_image(self.source)
        self.result.height, self.result.width = picture.rgb.shape[:2]
        files.check_output_holds(self.target, picture)
        self.picture = picture

    def restore(self, run: JobContext) -> None:
        """Restore what was read."""
        if self.picture is None:
            return
        before = self.result.seconds
        with self._step():
            self.restored = run.network(self.picture.rgb)
        self.result.network_seconds = self.result.seconds - before
        logger.info("'%s': %.3f s in the network", self.source, self.result.network_seconds)

    def write(self) -> None:
        """Write what was restored."""
        if self.restored is None or self.picture is None:
            return
        with self._step():
            files.write_image(self.target, self.restored, like=self.picture)
            if self.comparison:
                both = np.concatenate([self.picture.rgb, self.restored], axis=1)
                files.write_image(self.comparison, both, like=replace(self.picture, alpha=None))
            self._note_success()

    def discard(self) -> None:
        """Free the memory."""
        self.picture = self.restored = None
