"""One file on its way: read, restored and written; and an image as one."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from maxim_deploy.errors import MaximDeployError, quoted
from maxim_deploy.imaging import files
from maxim_deploy.imaging.picture import Picture, Pixels
from maxim_deploy.imaging.transparency import filled, put_back_hidden
from maxim_deploy.imaging.video.names import is_video
from maxim_deploy.jobs.record import Fingerprint, ResumeRecord

Network = Callable[[Pixels], Pixels]
"""From RGB pixels [H, W, 3] to restored ones of the same shape and type."""

WRITE_FACTOR = 5
"""Times the bytes of the pixels. Measured, without compression: 8 bits 3.5, 16 bits 4.2."""

logger = logging.getLogger(__name__)


@dataclass
class FileResult:
    """What became of one file.

    Attributes:
        input: path of the file.
        output: path of the result; None if there is none.
        status: "restored", "failed", or "finished" if an earlier run had restored it.
        error: of a file that failed, the reason, with the name of the file.
        height: of the upright image or frames, in pixels; None if it was not read.
        width: in pixels, like the height.
        seconds: spent on this file, reading and writing included. Files overlap, so the seconds of
            all files add up to more than has passed.
        network_seconds: those of them that were spent in the network.
        frames: of a video, how many were restored.
        fps: of a video, how many frames were restored in a second of `seconds`.
        left_out: what the input carries and the result does not, in words.
        cause: of a file that failed, the exception itself; not in `to_json`.
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
    left_out: list[str] = field(default_factory=list)
    cause: Exception | None = field(default=None, repr=False, compare=False)

    @classmethod
    def failure(cls, source: object, cause: Exception) -> FileResult:
        """The result of a file, or of what a URL names, that failed."""
        result = cls(str(source))
        result.fail(cause)
        return result

    def fail(self, cause: Exception) -> None:
        """Set the error, which names the file even if `cause` does not."""
        text = str(cause) or "not enough memory"  # the only error without words is a MemoryError
        kind = "video" if is_video(Path(self.input)) else "image"
        self.error = text if quoted(self.input) in text else f"{kind} {quoted(self.input)} | {text}"
        self.cause = cause

    def to_json(self) -> dict[str, Any]:
        """What a line of `maxim-run --json` holds."""
        return {name: value for name, value in vars(self).items() if name != "cause"}


@dataclass
class Job(ABC):
    """One file on its way through reading, the network and writing; after an error it stands.

    Attributes:
        source: the input file.
        target: the output file.
        comparison: where to put before and after side by side, if anywhere.
        record: records results, or None.
        fingerprint: of the input as it was read, if there is a record.
        lanes: calls of the network that a video has under way at a time.
        abandon: ends those calls.
        bring: waits until the input is there, where it has to be brought first.
    """

    source: Path
    target: Path
    comparison: Path | None = None
    record: ResumeRecord | None = None
    fingerprint: Fingerprint | None = None

    def __post_init__(self) -> None:
        self.result = FileResult(str(self.source))
        self.lanes = 1
        self.abandon: Callable[[], object] = _nothing
        self.bring: Callable[[], object] = _nothing

    @property
    def outputs(self) -> list[Path]:
        """All files that this job writes."""
        return [self.target, self.comparison] if self.comparison else [self.target]

    @property
    def expected_frames(self) -> int | None:
        """About how many frames a video has; None for an image, or if the file does not say."""
        return None

    @property
    def is_one_call(self) -> bool:
        """Whether the network is called once: several such jobs can be in it side by side."""
        return False

    @property
    def read_bytes(self) -> int:
        """Memory that reading takes at most; known before it."""
        return 0

    @property
    def write_bytes(self) -> int:
        """Most memory that writing takes, beyond the pixels to write."""
        return 0

    @property
    def waiting_bytes(self) -> int:
        """Memory of what waits before and behind the network while it runs on this file."""
        return 0

    def keep_little(self) -> None:
        """Let as little wait as can be: there is no memory for `waiting_bytes`."""
        return

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
            self.bring()
            if self.record:
                # Before the pixels: a file that changes while it is read will be restored again.
                self.fingerprint = self.record.fingerprint(self.source)
            self._read()
        return self

    @abstractmethod
    def _read(self) -> None: ...

    @abstractmethod
    def restore(self, network: Network, cancel: threading.Event) -> Generator[None]:
        """Restore what was read, if anything was; stops after each frame of a video."""

    @abstractmethod
    def write(self) -> None:
        """Put what was restored, if anything was, under its final name."""

    @abstractmethod
    def discard(self) -> None:
        """Let go of what was read or restored; what is under its final name stays."""

    def _succeed(self) -> None:
        """The outputs are whole under their names."""
        self._note(self.outputs)
        self.result.output, self.result.status = str(self.target), "restored"

    def _note(self, outputs: list[Path]) -> None:
        """Record files that are whole under their names, if there is a record."""
        if self.record and self.fingerprint:
            self.record.note(self.fingerprint, outputs)

    @contextmanager
    def _step(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        # What a user can put right is the file's failure. Anything else is a bug and ends the run.
        except (MaximDeployError, MemoryError, OSError) as error:
            self.result.fail(error)
        finally:
            self.result.seconds += time.perf_counter() - started


def _nothing() -> None:
    """There is nothing to abandon. A function of the module, so that a job can be pickled."""


@dataclass
class ImageJob(Job):
    """An image, whole in memory.

    Attributes:
        max_pixels: refuse images of more, or None.
        picture: what was read.
        restored: its pixels from the network.
    """

    max_pixels: int | None = None
    picture: Picture | None = None
    restored: Pixels | None = None

    @property
    def is_one_call(self) -> bool:
        """As of a `Job`."""
        return True

    @property
    def read_bytes(self) -> int:
        """As in `Job`; a file of unknown size counts by its length in bytes."""
        with suppress(MaximDeployError, OSError):  # `read` says why
            self.bring()
        return files.bytes_to_read(self.source)

    @property
    def write_bytes(self) -> int:
        """As of a `Job`."""
        pictures = 3 if self.comparison else 1  # the comparison is twice as wide
        return 0 if self.restored is None else WRITE_FACTOR * pictures * self.restored.nbytes

    def _read(self) -> None:
        picture = files.read_image(self.source, max_pixels=self.max_pixels)
        self.result.height, self.result.width = picture.rgb.shape[:2]
        files.check_output_holds(self.target, picture)
        self.result.left_out = [*picture.left_out, *files.left_out_of(self.target, picture)]
        self.picture = picture

    def restore(self, network: Network, cancel: threading.Event) -> Generator[None]:  # noqa: ARG002
        """Restore what was read; an image that has begun is finished."""
        if self.picture is None:
            return
        before = self.result.seconds
        picture = self.picture
        with self._step():
            restored = network(filled(picture.rgb, picture.alpha))
            put_back_hidden(restored, picture.rgb, picture.alpha)
            self.restored = restored
        self.result.network_seconds = self.result.seconds - before
        logger.info("'%s': %.3f s in the network", self.source, self.result.network_seconds)
        yield from ()  # a generator as a video's is, without a stop

    def write(self) -> None:
        """Write what was restored."""
        if self.restored is None or self.picture is None:
            return
        with self._step():
            files.write_image(self.target, self.restored, like=self.picture)
            if self.comparison:
                both = np.concatenate([self.picture.rgb, self.restored], axis=1)
                # Opaque: a comparison need not be transparent.
                files.write_image(self.comparison, both, like=replace(self.picture, alpha=None))
            self._succeed()

    def discard(self) -> None:
        """Free the memory."""
        self.picture = self.restored = None
