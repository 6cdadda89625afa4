"""The job of a video: decoding, the network and encoding overlap.

    decoding thread  -> 2 frames ->  network  -> 2 frames ->  encoding thread

With several lanes, one frame more than lanes is in the network. Frames leave it in order.

Files have hidden names until they are whole. Restoring may end early because the input is damaged,
the network fails or the caller cancels. Then the job has failed, and the frames so far are kept as
the playable file STEM.incomplete.SUFFIX.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maxim_deploy._files import Partial
from maxim_deploy.errors import CancelledError, MaximDeployError, VideoError, quoted
from maxim_deploy.imaging.picture import Pixels
from maxim_deploy.imaging.video import Frame, VideoEncoding, VideoReader, VideoWriter
from maxim_deploy.jobs.background import consume_behind, in_order, produce_ahead
from maxim_deploy.jobs.job import Job, Network
from maxim_deploy.jobs.result_names import incomplete_beside

ROOM = 2
"""Frames that wait before the network, and after it; none if memory is short."""

BYTES_PER_PIXEL = 6
"""Bytes per pixel of a frame with 16 bits per channel."""

logger = logging.getLogger(__name__)


@dataclass
class VideoJob(Job):
    """A video. Only a few of its frames are in memory.

    Attributes:
        encoding: how to encode the result.
        drop: kinds of streams to leave out.
        reader: the input while it is open; otherwise None.
    """

    encoding: VideoEncoding = field(default_factory=VideoEncoding)
    drop: frozenset[str] = frozenset()
    reader: VideoReader | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._room = ROOM
        self._partials: dict[Path, Partial] = {}
        self._early_end: MaximDeployError | None = None

    @property
    def expected_frames(self) -> int | None:
        """Approximate number of frames while the video is open; otherwise None."""
        return self.reader.expected_frames if self.reader else None

    @property
    def waiting_bytes(self) -> int:
        """As `Job.waiting_bytes`: memory of the frames outside the current run.

        Each side holds the frames that wait and the one that its thread works on. A frame before
        the network counts once; after the network the original counts too. With several lanes, the
        other frames in the network count with their results; the current run covers one frame.
        """
        if self.reader is None:
            return 0
        in_network = 2 * self.lanes if self.lanes > 1 else 0
        frames = 3 * (self._room + 1) + in_network
        return frames * BYTES_PER_PIXEL * self.reader.height * self.reader.width

    def keep_little(self) -> None:
        """Let each side hold only the frame that its thread works on."""
        self._room = 0

    def _read(self) -> None:
        self.reader = VideoReader(self.source)
        self.result.height, self.result.width = self.reader.height, self.reader.width
        self.result.frames = 0

    def restore(self, network: Network, cancel: threading.Event) -> Generator[None]:
        """Decode, restore and encode under hidden names; stops after each frame."""
        if self.reader is None:
            return
        try:
            with self._step():
                yield from self._restore(self.reader, network, cancel)
        except BaseException:  # closed early, or a bug: nothing half may stay
            self.discard()
            raise
        self._close()
        if self.result.error:
            self.discard()
        logger.info("'%s': %.3f s in the network", self.source, self.result.network_seconds)

    def write(self) -> None:
        """Rename the whole files to their final names, or the kept frames to STEM.incomplete."""
        if not self._partials:
            return
        with self._step():
            incomplete = incomplete_beside(self.target)
            if self._early_end:
                self._partials[self.target].publish(incomplete)
                # A full disk makes this fail too, and the reason of the early end matters more.
                with suppress(OSError):
                    self._note([incomplete])
                raise type(self._early_end)(f"{self._early_end}; they are in {quoted(incomplete)}")
            for path in self.outputs:
                self._partials[path].publish()
            # The whole video replaces the frames that an earlier run kept.
            incomplete.unlink(missing_ok=True)
            self._succeed()
        self.discard()
        if self.result.frames:
            self.result.fps = self.result.frames / self.result.seconds

    def discard(self) -> None:
        """Close the input and remove the files with hidden names."""
        self._close()
        for partial in self._partials.values():
            partial.discard()
        self._partials = {}

    def _close(self) -> None:
        if self.reader:
            self.reader.close()
            self.reader = None

    def _restore(
        self, reader: VideoReader, network: Network, cancel: threading.Event
    ) -> Generator[None]:
        """Write whole files under hidden names, or raise."""
        # They lie beside their targets, so the last step is a rename within one file system.
        for path in self.outputs:
            self._partials[path] = Partial(path)
        writers = [
            VideoWriter(
                partial.path,
                reader,
                path,
                self.encoding,
                width=reader.width * (1 if path == self.target else 2),
                copy_streams=path == self.target,
                drop=self.drop,
            )
            for path, partial in self._partials.items()
        ]
        cause: Exception | None = None
        try:
            yield from self._restore_frames(reader, writers, network, cancel)
            cause, rest = VideoError(reader.damage) if reader.damage else None, reader.rest
        except (MaximDeployError, MemoryError, OSError) as error:
            cause, rest = error, []  # the remaining packets belong to frames without a result
        if cause and not self.result.frames:
            raise cause
        try:
            for writer in writers:
                writer.close(rest)
        except MaximDeployError as error:
            # A full disk fails twice: while frames are written, and here.
            raise (cause or error) from None
        self.result.left_out = list(dict.fromkeys(reader.left_out))
        if cause:
            expected = reader.expected_frames
            of = f" of about {expected}" if expected else ""
            named = f"video {quoted(self.source)} | "
            why = str(cause).removeprefix(named) or "not enough memory"
            kind = CancelledError if isinstance(cause, CancelledError) else VideoError
            restored = f"{self.result.frames}{of} frames were restored"
            self._early_end = kind(f"{named}{why} | {restored}")

    def _restore_frames(
        self,
        reader: VideoReader,
        writers: list[VideoWriter],
        network: Network,
        cancel: threading.Event,
    ) -> Generator[None]:
        """Restore all frames, or the frames before the caller cancelled.

        Raises:
            CancelledError: the caller cancelled before the last frame.
        """

        def encode(both: tuple[Frame, Pixels]) -> None:
            frame, restored = both
            for writer in writers:
                is_result = writer is writers[0]
                rgb = restored if is_result else np.concatenate([frame.rgb, restored], axis=1)
                writer.write(rgb, frame)

        def restored_in(frame: Frame) -> tuple[Pixels, float]:
            started = time.perf_counter()
            return network(frame.rgb), time.perf_counter() - started

        was_cancelled = False

        def until_cancelled(frames: Iterator[Frame]) -> Iterator[Frame]:
            nonlocal was_cancelled
            for frame in frames:
                if cancel.is_set():
                    was_cancelled = True
                    return
                yield frame

        # One thread at a time decodes and one encodes: libav's contexts are not thread-safe.
        with (
            produce_ahead(reader, self._room) as frames,
            consume_behind(encode, self._room) as give,
        ):
            # Closed here, because its threads read what `discard` closes.
            with closing(
                in_order(until_cancelled(frames), restored_in, self.lanes, self.abandon)
            ) as done:
                for frame, (restored, seconds) in done:
                    self.result.network_seconds += seconds
                    give((frame, restored))
                    self.result.frames = (self.result.frames or 0) + 1
                    yield
            # Frames that were in the network have been kept by now.
            if was_cancelled:
                raise CancelledError("interrupted")
