"""A video file as upright RGB frames, each with its time and the packets of other streams."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxim_deploy._optional import require
from maxim_deploy.errors import VideoError
from maxim_deploy.imaging._words import reason
from maxim_deploy.imaging.files import check_input_file
from maxim_deploy.imaging.picture import Pixels
from maxim_deploy.imaging.video.coding import coding_of, rgb_from_frame
from maxim_deploy.imaging.video.orientation import orientation_from_matrix

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

_LIVE = frozenset({"mpegts", "mpeg"})
"""Formats of broadcasts, whose clocks start anywhere: their times are counted from the start."""

_EXACT_DURATION = frozenset({"mov", "matroska", "avi"})
"""Formats whose headers say how long a file is; libav guesses it for others."""

_MISSING_SECONDS = 0.25
"""A file that ends so much before its time, and as long a frame as it has, ends too early."""


@dataclass(frozen=True)
class Frame:
    """One frame, upright.

    Attributes:
        rgb: uint8 or uint16 [H, W, 3], C-contiguous.
        pts: when it is shown, in units of the reader's `time_base`; each later than the one before.
        duration: for how long, in the same units, or 0 if the file does not say.
        others: packets of the streams to copy that came before it in the file.
    """

    rgb: Pixels
    pts: int
    duration: int
    others: list[Packet[Any]] = field(default_factory=list, repr=False)


class VideoReader:
    """An open video file; iterate once over its frames, then look at `rest` and `damage`.

    Frames come as they are decoded: of a damaged file all that can be. Nothing is held but the
    frames that the decoder needs.

    Attributes:
        path: of the file.
        container: of libav.
        stream: the video stream that is read.
        coding: of its colours.
        height: of the upright frames.
        width: likewise.
        pixel_aspect: width to height of a pixel of the upright frames, or None if unknown.
        rest: after iteration, the packets behind the last frame.

    Args:
        path: the file.

    Raises:
        VideoError: it is no video, has no frame that can be decoded, or cannot be kept whole.
        MissingDependencyError: the extra `video` is not installed.
    """

    def __init__(self, path: Path) -> None:
        check_input_file(path, "video")
        av = require("av", "video")
        self.path = path
        self.rest: list[Packet[Any]] = []
        self._errors: tuple[type[Exception], ...] = (av.FFmpegError,)
        self._bad_packets = 0
        self._stopped: str | None = None
        self._longest, self._end = Fraction(0), Fraction(0)
        try:
            # The prefix: a colon in a name would otherwise name a protocol.
            self.container: InputContainer = av.open(f"file:{path}", metadata_errors="replace")
        except self._errors as error:
            raise self._failure(
                f"is no video, or ends before it says what it holds: {reason(error)}"
            ) from error
        stream = self.container.streams.best("video")
        if stream is None:
            raise self._failure("has no video stream")
        self.stream: VideoStream = stream
        assert self.stream.time_base is not None
        self.time_base: Fraction = self.stream.time_base
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise self._failure(self.damage or "has no frames")
        self._learn_from(self._first[0])

    def _learn_from(self, frame: VideoFrame) -> None:
        try:
            self.coding = coding_of(frame)
            matrix: Any = frame.side_data.get("DISPLAYMATRIX")
            self._orientation = orientation_from_matrix(bytes(matrix) if matrix else None)
        except VideoError as error:
            raise self._failure(str(error)) from error
        if frame.interlaced_frame:
            raise self._failure("is interlaced | deinterlace it first")
        self._shape = (frame.format.name, frame.height, frame.width)
        aspect = self.stream.sample_aspect_ratio or None
        turned = self._orientation.is_transposed
        self.height, self.width = (frame.height, frame.width)[:: -1 if turned else 1]
        self.pixel_aspect = 1 / aspect if aspect and turned else aspect

    @property
    def rate(self) -> Fraction | None:
        """Mean frames per second, if the file says so."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return rate if rate and rate < 1000 else None

    @property
    def expected_frames(self) -> int | None:
        """How many frames there will be, about, or None if nobody knows."""
        if self.stream.frames:
            return self.stream.frames
        seconds = (self.container.duration or 0) / 1_000_000
        return round(seconds * self.rate) if self.rate and seconds > 0 else None

    @property
    def damage(self) -> str | None:
        """What was wrong with what has been read so far, in words; None if nothing was."""
        words = []
        if self._bad_packets:
            words.append(f"{self._bad_packets} of its packets cannot be decoded")
        if self._stopped:
            words.append(self._stopped)
        return " and ".join(words) or None

    def __iter__(self) -> Iterator[Frame]:
        """The frames in the order of their time.

        Raises:
            VideoError: the size or the pixel format changes on the way.
        """
        assert self._first is not None
        frame, others = self._first
        self._first = None
        last: int | None = None
        while True:
            pts = self._time_of(frame, last)
            yield Frame(self._upright(frame), pts, frame.duration, others)
            last = pts
            following = next(self._decoded, None)
            if following is None:
                return
            frame, others = following

    def close(self) -> None:
        """Close the file."""
        self._decoded.close()
        self.container.close()

    def _upright(self, frame: VideoFrame) -> Pixels:
        shape = (frame.format.name, frame.height, frame.width)
        if shape != self._shape:
            old, new = (f"{name} {height}x{width}" for name, height, width in (self._shape, shape))
            raise self._failure(f"changes from {old} to {new} on the way | split it there")
        return self._orientation.upright(rgb_from_frame(frame, self.coding))

    def _time_of(self, frame: VideoFrame, last: int | None) -> int:
        """When a frame is shown; those without a time, or with one that has passed, follow on."""
        pts = frame.pts
        if pts is not None:
            pts -= round(self._start() / self.time_base)
        if last is None:
            return pts or 0
        if pts is None:
            return last + max(1, frame.duration)
        self._longest = max(self._longest, (pts - last) * self.time_base)
        return max(pts, last + 1)

    def _start(self) -> Fraction:
        """What is subtracted from all times, in seconds."""
        is_live = not _LIVE.isdisjoint(self.container.format.name.split(","))
        return Fraction(self.container.start_time or 0, 1_000_000) if is_live else Fraction(0)

    def _decode(self) -> Generator[tuple[VideoFrame, list[Packet[Any]]]]:
        """Frames in their order, each with the packets that were read before it."""
        for packet in self._packets():
            is_damaged = packet.is_corrupt
            if packet.stream.index == self.stream.index:
                try:
                    frames: list[Any] = packet.decode()
                except self._errors:
                    frames, is_damaged = [], True
                for frame in frames:
                    is_damaged |= frame.is_corrupt
                    others, self.rest = self.rest, []
                    yield frame, others
            elif packet.dts is not None:
                self._shift(packet)
                self.rest.append(packet)
            self._bad_packets += is_damaged
        self._check_end()

    def _packets(self) -> Iterator[Packet[Any]]:
        try:
            for packet in self.container.demux():
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self._end = max(self._end, end)
                yield packet
        except self._errors as error:
            self._stopped = f"it cannot be read any further: {reason(error)}"

    def _shift(self, packet: Packet[Any]) -> None:
        start = round(self._start() / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - start
        packet.dts = None if packet.dts is None else packet.dts - start

    def _check_end(self) -> None:
        """Some formats just end; that it was too early shows in the time that they promised."""
        promised = self.container.duration
        if promised is None or _EXACT_DURATION.isdisjoint(self.container.format.name.split(",")):
            return
        whole = Fraction(promised + (self.container.start_time or 0), 1_000_000)
        if whole - self._end > _MISSING_SECONDS + self._longest:
            self._stopped = f"it ends after {float(self._end):.2f} of {float(whole):.2f} s"

    def _failure(self, why: str) -> VideoError:
        return VideoError(f"video '{self.path}' | {why}")
