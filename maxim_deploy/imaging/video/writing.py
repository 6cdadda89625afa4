"""Write upright RGB frames to a video file with the colours, times and streams of another."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxim_deploy._optional import require
from maxim_deploy.errors import VideoError, quoted
from maxim_deploy.imaging._reasons import reason
from maxim_deploy.imaging.picture import Pixels
from maxim_deploy.imaging.video.coding import frame_from_rgb
from maxim_deploy.imaging.video.description import container_options, copy_description
from maxim_deploy.imaging.video.encoding import CODECS, Codec, VideoEncoding
from maxim_deploy.imaging.video.frame_data import Canvases
from maxim_deploy.imaging.video.names import CONTAINERS
from maxim_deploy.imaging.video.reading import Frame, VideoReader
from maxim_deploy.imaging.video.result import check_result
from maxim_deploy.imaging.video.streams import copied_streams, not_held

if TYPE_CHECKING:
    from av import Packet, VideoStream
    from av.container import OutputContainer
    from av.stream import Stream


class VideoWriter:
    """A video file that is being written. It is playable after `close`.

    Args:
        path: file to write; any suffix.
        like: the video that provides times, colours and pixel aspect ratio.
        name: final name of the file. Its suffix selects the container.
        encoding: the encoding.
        width: width of the frames, if different from those of `like`.
        copy_streams: whether to copy other streams, titles and chapters.
        drop: kinds of streams to leave out, of `streams.KINDS`.

    Raises:
        VideoError: the file cannot be made, or cannot hold contents of the video.
        UsageError: the suffix of `name` is unknown.
        MissingDependencyError: the extra `video` is not installed.
    """

    def __init__(
        self,
        path: Path,
        like: VideoReader,
        name: Path,
        encoding: VideoEncoding,
        width: int | None = None,
        copy_streams: bool = True,
        drop: Collection[str] = (),
    ) -> None:
        av = require("av", "video")
        self._path, self._name, self._like = path, name, like
        self._errors: tuple[type[Exception], ...] = (av.FFmpegError, ValueError)
        codec = CODECS[encoding.codec]
        self._format = self._pixel_format(encoding.codec, width or like.width)
        self._canvases = Canvases(like.data, codec.has_frame_data)
        self._is_empty = True
        self._is_result = copy_streams
        try:
            self._container = self._opened()
            self._video = self._video_stream(codec, encoding, width or like.width)
            self._copies: dict[int, Stream] = {}
            if copy_streams:
                self._copies = copied_streams(like, self._container, name, drop)
                copy_description(like, self._container, self._video)
        except self._errors as error:
            raise self._failure(error) from error
        self._begin()

    def _opened(self) -> OutputContainer:
        container = CONTAINERS[self._name.suffix.lower()]
        source = self._like.container
        opened: OutputContainer = require("av", "video").open(
            f"file:{self._path}",
            "w",
            format=container,  # the hidden file has another suffix
            options=container_options(source, container) if self._is_result else {},
        )
        return opened

    def _begin(self) -> None:
        """Write the header. Only here a container refuses a combination of streams."""
        try:
            self._container.start_encoding()
        except self._errors as error:
            streams = [self._like.container.streams[index] for index in self._copies]
            raise (not_held(streams, self._name) if streams else self._failure(error)) from error

    def write(self, rgb: Pixels, frame: Frame) -> None:
        """Add a frame, after the packets of other streams that precede it.

        Args:
            rgb: uint8 or uint16 [H, W, 3].
            frame: frame of `like` that provides time and side data.

        Raises:
            VideoError: the file cannot be written.
        """
        self._is_empty = False
        canvas = self._canvases.canvas(frame.data, frame.carrier, rgb)
        made = frame_from_rgb(rgb, self._like.coding, self._format, canvas)
        made.pts, made.time_base, made.duration = frame.pts, self._like.time_base, frame.duration
        try:
            self._copy(frame.others)
            self._container.mux(self._video.encode(made))
        except self._errors as error:
            raise self._failure(error) from error

    def close(self, rest: list[Packet[Any]]) -> None:
        """Finish the file after the last packets of other streams, and report what it lacks.

        Raises:
            VideoError: the file cannot be written or read.
        """
        streams = {index: copy.index for index, copy in self._copies.items()}
        try:
            self._copy(rest)
            self._container.mux(self._video.encode(None))
            self._container.close()
        except self._errors as error:
            raise self._failure(error) from error
        if self._is_result and not self._is_empty:
            lost = self._canvases.lost
            lost += check_result(self._like, self._path, self._name, streams)
            if lost:
                self._like.leave_out(*dict.fromkeys(lost))

    def _copy(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            if packet.stream.index in self._copies:
                packet.stream = self._copies[packet.stream.index]
                self._container.mux(packet)

    def _video_stream(self, codec: Codec, encoding: VideoEncoding, width: int) -> VideoStream:
        flags = require("av.codec.context", "video").Flags
        like, options = self._like, dict(codec.options)
        if codec.crf is not None:
            options["crf"] = str(codec.crf if encoding.crf is None else encoding.crf)
        if self._canvases.parameters:
            options["x264-params"] = self._canvases.parameters
        if like.chroma_location:
            options["chroma_sample_location"] = like.chroma_location
        # libav requires a rate as a label. Frames are shown by their times.
        stream: Any = self._container.add_stream(codec.encoder, like.rate or 25, options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, like.height, self._format
        context.time_base = like.time_base
        # The encoder passes on the duration of each frame. MP4 computes the whole duration from
        # decoding times. With a variable rate, frames stored out of order (B-frames) would distort
        # it.
        context.flags |= flags.frame_duration
        context.max_b_frames = 0
        context.sample_aspect_ratio = like.pixel_aspect or Fraction(0, 1)
        context.colorspace = like.coding.tagged_matrix
        context.color_range = like.coding.tagged_range
        context.color_primaries = like.coding.primaries
        context.color_trc = like.coding.transfer
        added: VideoStream = stream
        return added

    def _pixel_format(self, name: str, width: int) -> str:
        depths, bits = CODECS[name].bits, self._like.coding.bits
        if bits > depths[-1]:
            roomy = next(key for key, codec in CODECS.items() if codec.bits[-1] >= bits)
            raise VideoError(
                f"output {quoted(self._name)} | {name} holds up to {depths[-1]} of the {bits} bits "
                f"per channel of the input | use --codec {roomy}"
            )
        depth = next(depth for depth in depths if depth >= bits)
        return self._like.coding.pixel_format(depth, self._like.height, width)

    def _failure(self, error: Exception) -> VideoError:
        return VideoError(f"output {quoted(self._name)} | cannot be written: {reason(error)}")
