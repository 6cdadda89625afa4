"""A video on its way through `maxim-run`: decoding, the network and encoding overlap.

    decoding thread  -> 2 frames ->  network  -> 2 frames ->  encoding thread

What is written has a hidden name until it is whole. If restoring ends early, because the input is
damaged, the network fails or Ctrl-C is pressed, the frames up to there are kept, playable, as
STEM.incomplete.SUFFIX, and the job has failed.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maxim_deploy._files import partial_sibling, publish
from maxim_deploy.errors import MaximDeployError
from maxim_deploy.imaging.picture import Pixels
from maxim_deploy.imaging.video import Encoding, Frame, VideoReader, VideoWriter
from maxim_deploy.jobs.job import Job, JobContext
from maxim_deploy.jobs.naming import incomplete_beside
from maxim_deploy.jobs.overlap import ahead, behind

ROOM = 2
"""Frames that wait before the network, and behind it."""

logger = logging.getLogger(__name__)


@dataclass
class VideoJob(Job):
    """A video, of which a handful of frames are in memory.

    Attributes:
        encoding: how to encode the result.
        reader: the input while it is open.
    """

    encoding: Encoding = field(default_factory=Encoding)
    reader: VideoReader | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._partials: dict[Path, Path] = {}
        self._ended_early: str | None = None

    def _read(self) -> None:
        self.reader = VideoReader(self.source)
        self.result.height, self.result.width = self.reader.height, self.reader.width
        self.result.frames = 0

    def restore(self, run: JobContext) -> None:
        """Decode, restore and encode frame by frame, under hidden names."""
        if self.reader is None:
            return
        try:
            with self._step():
                self._restore(self.reader, run)
        except BaseException:
            self.discard()
            raise
        self._close()
        if self.result.error:
            self.discard()
        logger.info("'%s': %.3f s in the network", self.source, self.result.network_seconds)

    def write(self) -> None:
        """Rename what is whole, or what is kept of what ended early."""
        if not self._partials:
            return
        with self._step():
            incomplete = incomplete_beside(self.target)
            if self._ended_early:
                publish(self._partials.pop(self.target), incomplete)
                self.result.fail(f"{self._ended_early}; they are in '{incomplete}'")
            else:
                for path in self.outputs:
                    publish(self._partials.pop(path), path)
                incomplete.unlink(missing_ok=True)
                self._note_success()
        self.discard()
        if self.result.frames:
            self.result.fps = self.result.frames / self.result.seconds

    def discard(self) -> None:
        """Close the input and remove what is under hidden names."""
        self._close()
        for partial in self._partials.values():
            partial.unlink(missing_ok=True)
        self._partials = {}

    def _close(self) -> None:
        if self.reader:
            self.reader.close()
            self.reader = None

    def _restore(self, reader: VideoReader, run: JobContext) -> None:
        """Leave whole files under hidden names, or raise."""
        self._partials = {path: partial_sibling(path) for path in self.outputs}
        writers = [
            VideoWriter(
                partial,
                reader,
                path,
                self.encoding,
                width=reader.width * (1 if path == self.target else 2),
                copy_streams=path == self.target,
            )
            for path, partial in self._partials.items()
        ]
        why, is_done = None, False
        try:
            is_done = self._restore_frames(reader, writers, run)
            why = reader.damage or (None if is_done else "interrupted")
        except (MaximDeployError, MemoryError, OSError) as error:
            why = str(error) or "not enough memory"
        if why and not self.result.frames:
            raise MaximDeployError(str(why))
        try:
            for writer in writers:
                writer.close(reader.rest if is_done else [])  # else it is of later frames
        except MaximDeployError as error:
            raise MaximDeployError(str(why or error)) from error
        if why:
            expected = reader.expected_frames
            of = f" of about {expected}" if expected else ""
            self._ended_early = f"{why} | {self.result.frames}{of} frames were restored"

    def _restore_frames(
        self, reader: VideoReader, writers: list[VideoWriter], run: JobContext
    ) -> bool:
        """Whether all frames were restored, rather than only those before Ctrl-C."""

        def encode(both: tuple[Frame, Pixels]) -> None:
            frame, restored = both
            for writer in writers:
                is_result = writer is writers[0]
                rgb = restored if is_result else np.concatenate([frame.rgb, restored], axis=1)
                writer.write(rgb, frame.pts, frame.duration, frame.others if is_result else [])

        self.result.frames = 0
        with (
            run.bar.part(self.source.name, reader.expected_frames) as advance,
            ahead(reader, ROOM) as frames,
            behind(encode, ROOM) as give,
        ):
            for frame in frames:
                if run.asked_to_stop():
                    return False
                started = time.perf_counter()
                restored = run.network(frame.rgb)
                self.result.network_seconds += time.perf_counter() - started
                give((frame, restored))
                self.result.frames += 1
                advance()
        return True
