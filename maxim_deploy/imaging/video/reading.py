"""Read a video file as upright RGB frames, each with its time and packets of other streams."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxim_deploy._optional import require
from maxim_deploy.errors import VideoError, quoted
from maxim_deploy.imaging._reasons import reason
from maxim_deploy.imaging.files import check_input_file
from maxim_deploy.imaging.orientation import orientation_from_matrix
from maxim_deploy.imaging.picture import Pixels
from maxim_deploy.imaging.video.chroma import chroma_location_of
from maxim_deploy.imaging.video.coding import coding_of, rgb_from_frame
from maxim_deploy.imaging.video.demuxing import Demuxer
from maxim_deploy.imaging.video.frame_data import carrier_of, data_of, side_data_of
from maxim_deploy.imaging.video.names import DEMUXERS, IMAGE_BRANDS

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

logger = logging.getLogger(__name__)

_OPTIONS = {
    # Only a single local file of these formats is read; see `DEMUXERS`.
    "format_whitelist": ",".join(DEMUXERS),
    "protocol_whitelist": "file",
}


@dataclass(frozen=True)
class Frame:
    """One frame, upright.

    Attributes:
        rgb: uint8 or uint16 [H, W, 3], C-contiguous.
        pts: time of display in units of the reader's `time_base`; each is later than the one
            before.
        duration: duration in the same units, or 0 if unknown.
        data: names of its side data, such as closed captions.
        carrier: a tiny frame that has these data.
        others: packets of the copied streams that precede it in the file.
    """

    rgb: Pixels
    pts: int
    duration: int
    data: frozenset[str]
    carrier: VideoFrame = field(repr=False)
    others: list[Packet[Any]] = field(default_factory=list, repr=False)


class VideoReader:
    """An open video file. Iterate once over its frames, then read `rest` and `damage`.

    Frames are decoded on demand, as many as possible from a damaged file. Memory holds only the
    frames that the decoder needs.

    Attributes:
        path: of the file.
        container: libav's container.
        stream: the video stream that is read.
        coding: its colour coding.
        height: of the upright frames.
        width: width of the upright frames.
        pixel_aspect: width over height of a pixel of the upright frames, or None if unknown.
        chroma_location: libav's name of the location of chroma; None if unknown or absent.
        data: side data of the first frame, by libav's name.
        left_out: contents that results lack, in words, as far as reported by now.

    Args:
        path: the file.

    Raises:
        VideoError: it is not a video, has no frame that can be decoded, or has contents that cannot
            be kept.
        MissingDependencyError: the extra `video` is not installed.
    """

    def __init__(self, path: Path) -> None:
        check_input_file(path, "video")
        av = require("av", "video")
        self.path, self.left_out = path, list[str]()
        try:
            # The prefix `file:`, because a colon in a name would otherwise mean a protocol.
            self.container: InputContainer = av.open(
                f"file:{path}", metadata_errors="replace", options=_OPTIONS
            )
        except MemoryError as error:
            self._blame_file(error)
            raise
        except Exception as error:  # damaged files make PyAV raise more than libav's errors
            raise self._failure(
                f"is not a video, or its header is incomplete: {reason(error)}"
            ) from error
        self.stream = self._stream()
        assert self.stream.time_base is not None
        self.time_base: Fraction = self.stream.time_base
        # The first frame is decoded here: headers may lack the coding or be wrong, and a file that
        # cannot be kept should fail before the network runs.
        self._demuxer = Demuxer(self.container, self.stream, path, self.leave_out)
        self._decoded = self._demuxer.frames()
        self._first = self._next()
        if self._first is None:
            raise self._failure(self.damage or "has no frames")
        self._learn_from(self._first[0])

    def _stream(self) -> VideoStream:
        """The video stream. Cover pictures of sound and files of one picture are refused."""
        name = self.container.format.name
        if name.endswith("_pipe") or self.container.metadata.get("major_brand") in IMAGE_BRANDS:
            kind = name.removesuffix("_pipe") if name.endswith("_pipe") else "HEIF or AVIF"
            raise self._failure(f"is an image ({kind}) | give it the suffix of its format")
        best = self.container.streams.best("video")
        if best is None:
            raise self._failure("has no video stream")
        moving = [one for one in self.container.streams.video if not _is_cover(one)]
        if not moving:
            raise self._failure("has no video stream, only sound with a cover picture")
        return best if best in moving else moving[0]

    def _learn_from(self, frame: VideoFrame) -> None:
        # libav's own decoders of VP8 and VP9 leave the alpha out.
        if self.stream.metadata.get("alpha_mode") == "1":
            raise self._failure("has transparency: VP8 or VP9 with alpha | convert it")
        try:
            self.coding = coding_of(frame)
            side_data = side_data_of(frame, self.stream.codec_context.name)
            matrix = next(iter(side_data.get("DISPLAYMATRIX", [])), None)
            self._orientation = orientation_from_matrix(matrix)
        except VideoError as error:
            raise self._failure(str(error)) from error
        if frame.rotation and matrix is None:
            raise self._failure(f"is shown turned by {frame.rotation} degrees | turn its pixels")
        if frame.interlaced_frame:
            raise self._failure("is interlaced | deinterlace it first")
        self._shape = (frame.format.name, frame.height, frame.width)
        aspect = self.stream.sample_aspect_ratio or None
        turned = self._orientation.is_transposed
        self.height, self.width = (frame.height, frame.width)[:: -1 if turned else 1]
        self.pixel_aspect = 1 / aspect if aspect and turned else aspect
        is_subsampled = self.coding.layout in ("420", "422")
        self.chroma_location = chroma_location_of(self.stream) if is_subsampled else None
        self.data = data_of(frame, self.stream.codec_context.name, is_first=True)

    @property
    def rate(self) -> Fraction | None:
        """Mean frames per second, if the file says so."""
        rate = self.stream.average_rate or self.stream.guessed_rate
        return rate if rate and rate < 1000 else None

    @property
    def expected_frames(self) -> int | None:
        """Approximate number of frames, or None if unknown."""
        if self.stream.frames:
            return self.stream.frames
        seconds = (self.container.duration or 0) / 1_000_000
        return round(seconds * self.rate) if self.rate and seconds > 0 else None

    @property
    def rest(self) -> list[Packet[Any]]:
        """After iteration, the packets after the last frame."""
        return self._demuxer.rest

    @property
    def damage(self) -> str | None:
        """Damage found so far, in words; None without damage."""
        return self._demuxer.damage

    def __iter__(self) -> Iterator[Frame]:
        """The frames in the order of their time.

        Raises:
            VideoError: the size or the pixel format changes, or the video becomes interlaced.
        """
        assert self._first is not None
        frame, others = self._first
        self._first = None
        last: int | None = None
        while True:
            pts = self._time_of(frame, last)
            data = data_of(frame, self.stream.codec_context.name, is_first=last is None)
            rgb = self._upright(frame)
            yield Frame(rgb, pts, frame.duration, frozenset(data), carrier_of(frame), others)
            last = pts
            following = self._next()
            if following is None:
                return
            frame, others = following

    def leave_out(self, *things: str) -> None:
        """Record and log contents that the result lacks."""
        self.left_out += things
        logger.warning("video '%s': left out: %s", self.path, ", ".join(things))

    def close(self) -> None:
        """Close the file."""
        # The generator reads from the container, so the generator is closed first.
        self._decoded.close()
        self.container.close()

    def _next(self) -> tuple[VideoFrame, list[Packet[Any]]] | None:
        try:
            return next(self._decoded, None)
        except MemoryError as error:
            self._blame_file(error)
            raise

    def _blame_file(self, error: MemoryError) -> None:
        """Turn libav's own MemoryError into `VideoError`: the file may claim any size."""
        if isinstance(error, require("av", "video").FFmpegError):
            raise self._failure(
                "needs more memory than libav can get: it is damaged, or too large for this machine"
            ) from error

    def _upright(self, frame: VideoFrame) -> Pixels:
        # A result has one size and one pixel format, so the rest of this source cannot be written.
        shape = (frame.format.name, frame.height, frame.width)
        if shape != self._shape:
            old, new = (f"{name} {height}x{width}" for name, height, width in (self._shape, shape))
            raise self._failure(f"changes from {old} to {new} | split it there")
        if frame.interlaced_frame:
            raise self._failure("becomes interlaced | deinterlace it first")
        return self._orientation.upright(rgb_from_frame(frame, self.coding))

    def _time_of(self, frame: VideoFrame, last: int | None) -> int:
        """Display time of a frame. A frame without a valid time follows the previous one."""
        pts = frame.pts
        if pts is not None:
            pts -= round(self._demuxer.start / self.time_base)
        if last is None:
            return pts or 0
        if pts is None:
            return last + max(1, frame.duration)
        self._demuxer.longest_frame = max(
            self._demuxer.longest_frame, (pts - last) * self.time_base
        )
        # Muxers refuse a frame whose time is not after the previous one.
        return max(pts, last + 1)

    def _failure(self, why: str) -> VideoError:
        return VideoError(f"video {quoted(self.path)} | {why}")


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & require("av.stream", "video").Disposition.attached_pic)
