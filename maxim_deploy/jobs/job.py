"""A job reads, restores and writes one file; `ImageJob` does so for an image."""

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
"""From RGB pixels [H, W, 3] to restored pixels of the same shape and type."""

WRITE_FACTOR = 5
"""Memory of writing, as a multiple of the pixels' bytes. Measured without compression: 3.5 for 8
bits, 4.2 for 16 bits."""

logger = logging.getLogger(__name__)


@dataclass
class FileResult:
    """The outcome of one file.

    Attributes:
        input: path of the file.
        output: path of the result; None if there is none.
        status: "restored", "failed", or "finished" if an earlier run had restored it.
        error: why the file failed, with its name; None if it did not fail.
        height: height of the upright image or frames in pixels; None if the file was not read.
        width: their width in pixels; None if the file was not read.
        seconds: time spent on this file, reading and writing included. Files overlap, so the
            seconds of all files add up to more than the elapsed time.
        network_seconds: the part of `seconds` that was spent in the network.
        frames: number of restored frames of a video; None for an image.
        fps: restored frames of a video per second of `seconds`; None for an image.
        left_out: parts of the input that the result lacks, in words.
        cause: the exception of a file that failed; `to_json` omits it.
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
        """The result of a file or URL that failed."""
        result = cls(str(source))
        result.fail(cause)
        return result

    def fail(self, cause: Exception) -> None:
        """Set the error. It names the file even if `cause` does not."""
        text = str(cause) or "not enough memory"  # the only error without words is a MemoryError
        kind = "video" if is_video(Path(self.input)) else "image"
        self.error = text if quoted(self.input) in text else f"{kind} {quoted(self.input)} | {text}"
        self.cause = cause

    def to_json(self) -> dict[str, Any]:
        """The object of a line of `maxim-run --json`."""
        return {name: value for name, value in vars(self).items() if name != "cause"}


@dataclass
class Job(ABC):
    """Takes one file through reading, the network and writing. An error ends its steps.

    Attributes:
        source: the input file.
        target: the output file.
        comparison: file for before and after side by side, or None.
        record: records results, or None.
        fingerprint: fingerprint of the input as it was read; None without a record.
        lanes: calls of the network that a video makes at a time.
        abandon: ends those calls.
        bring: waits until the input has been downloaded, if it is remote.
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
        """Whether the job calls the network once. Several such jobs can run side by side."""
        return False

    @property
    def read_bytes(self) -> int:
        """Upper bound of the memory that reading takes; known before reading."""
        return 0

    @property
    def write_bytes(self) -> int:
        """Upper bound of the memory that writing takes, beyond the pixels to write."""
        return 0

    @property
    def waiting_bytes(self) -> int:
        """Memory of the frames that wait before and after the network while it runs."""
        return 0

    def keep_little(self) -> None:
        """Let as few frames wait as possible; called if memory does not hold `waiting_bytes`."""
        return

    def is_finished(self) -> bool:
        """Whether an earlier run has finished this job, and input and outputs are unchanged."""
        with self._step():
            if self.record and self.record.has(self.source, self.outputs):
                self.result.output, self.result.status = str(self.target), "finished"
                return True
        return False

    def read(self) -> Self:
        """Read or open the input, and make all checks that do not need the network."""
        with self._step():
            self.bring()
            if self.record:
                # Taken before the pixels: a file that changes during reading is restored again.
                self.fingerprint = self.record.fingerprint(self.source)
            self._read()
        return self

    @abstractmethod
    def _read(self) -> None: ...

    @abstractmethod
    def restore(self, network: Network, cancel: threading.Event) -> Generator[None]:
        """Restore the input unless reading failed; yields after each frame of a video."""

    @abstractmethod
    def write(self) -> None:
        """Write the result under its final name unless an earlier step failed."""

    @abstractmethod
    def discard(self) -> None:
        """Release what was read or restored; files under their final names stay."""

    def _succeed(self) -> None:
        """Mark the job as restored: its outputs are whole under their final names."""
        self._note(self.outputs)
        self.result.output, self.result.status = str(self.target), "restored"

    def _note(self, outputs: list[Path]) -> None:
        """Record files that are whole under their final names, if there is a record."""
        if self.record and self.fingerprint:
            self.record.note(self.fingerprint, outputs)

    @contextmanager
    def _step(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        # A problem that a user can fix is the file's failure. Any other error is a bug and ends the
        # run.
        except (MaximDeployError, MemoryError, OSError) as error:
            self.result.fail(error)
        finally:
            self.result.seconds += time.perf_counter() - started


def _nothing() -> None:
    """Do nothing. It is a function of the module, so that a job can be pickled."""


@dataclass
class ImageJob(Job):
    """An image, whole in memory.

    Attributes:
        max_pixels: most pixels that an image may have; None for what fits the memory.
        picture: the picture that was read.
        restored: its restored pixels.
    """

    max_pixels: int | None = None
    picture: Picture | None = None
    restored: Pixels | None = None

    @property
    def is_one_call(self) -> bool:
        """As `Job.is_one_call`: an image is one call."""
        return True

    @property
    def read_bytes(self) -> int:
        """As `Job.read_bytes`; a picture of unknown size counts by the bytes of its file."""
        with suppress(MaximDeployError, OSError):  # `read` reports why
            self.bring()
        return files.bytes_to_read(self.source)

    @property
    def write_bytes(self) -> int:
        """As `Job.write_bytes`; 0 until the image is restored."""
        pictures = 3 if self.comparison else 1  # the comparison is twice as wide
        return 0 if self.restored is None else WRITE_FACTOR * pictures * self.restored.nbytes

    def _read(self) -> None:
        picture = files.read_image(self.source, max_pixels=self.max_pixels)
        self.result.height, self.result.width = picture.rgb.shape[:2]
        files.check_output_holds(self.target, picture)
        self.result.left_out = [*picture.left_out, *files.left_out_of(self.target, picture)]
        self.picture = picture

    def restore(self, network: Network, cancel: threading.Event) -> Generator[None]:  # noqa: ARG002
        """Restore the image. Cancelling does not stop it once it has begun."""
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
        yield from ()  # a generator, as for a video, but it yields nothing

    def write(self) -> None:
        """Write the restored image, and the comparison if one is wanted."""
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
