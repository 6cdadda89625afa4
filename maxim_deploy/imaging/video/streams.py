"""Copy the other streams of a video packet by packet if the result's muxer accepts them."""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from maxim_deploy._optional import require
from maxim_deploy.errors import VideoError, quoted
from maxim_deploy.imaging.video.description import described

if TYPE_CHECKING:
    from pathlib import Path

    from av.container import OutputContainer
    from av.stream import Stream

    from maxim_deploy.imaging.video.reading import VideoReader

logger = logging.getLogger(__name__)

KINDS = ("audio", "subtitles", "data")
"""Kinds of streams that users may drop. Attachments count as data."""

_NO_TAG = "\0\0\0\0"

_KNOWN = {
    ("audio", "matroska"): "aac",
    ("audio", "mp4"): "aac",
    ("subtitle", "matroska"): "ass",
    ("subtitle", "mp4"): "mov_text",
    ("subtitle", "mov"): "mov_text",
}
"""A codec that each container accepts, by type of stream.

Sound of MOV is absent: its muxer writes unknown codecs in a form that no player reads."""


def kind_of(stream: Stream) -> str:
    """The kind of a stream, one of `KINDS`."""
    return {"audio": "audio", "subtitle": "subtitles"}.get(stream.type, "data")


def copied_streams(
    source: VideoReader, output: OutputContainer, path: Path, drop: Collection[str]
) -> dict[int, Stream]:
    """Add the copied streams to the output. Returns them by their index in the source.

    Args:
        source: the video.
        output: the container to add to. It may already have a video stream.
        path: path of the output, for errors.
        drop: kinds of streams to leave out, of `KINDS`.

    Raises:
        VideoError: the container cannot hold a stream of sound or subtitles.
    """
    copies: dict[int, Stream] = {}
    for stream in source.container.streams:
        if stream.index == source.stream.index or _is_described(stream, source.stream):
            continue  # encoded again; made by the muxer
        if stream.type != "video" and kind_of(stream) in drop:
            logger.info("video '%s': %s is dropped", source.path, _named(stream))
        elif _is_copied(stream) and _takes(output.format.name, stream):
            copies[stream.index] = _copy_of(stream, output)
        elif _is_worth_a_failure(stream):
            raise not_held([stream], path)
        else:
            source.leave_out(_named(stream))
    return copies


def _is_described(stream: Stream, video: Stream) -> bool:
    """Whether it is an MP4 track that repeats metadata or chapters of the file."""
    if stream.type != "data":
        return False
    code = stream.metadata.get("timecode")
    is_timecode = code is not None and video.metadata.get("timecode") == code
    # libav itself discards tracks of chapters.
    return is_timecode or stream.discard == require("av.stream", "video").Discard.all


def _is_copied(stream: Stream) -> bool:
    return stream.type in ("audio", "subtitle", "attachment")


def _is_worth_a_failure(stream: Stream) -> bool:
    """Whether a lost stream is an error: subtitles and sound that libav can decode.

    A video's only sound always counts.
    """
    is_only_sound = stream.container.streams.audio == (stream,)
    return is_only_sound or (
        stream.type in ("audio", "subtitle") and stream.codec_context is not None
    )


def _takes(container: str, stream: Stream) -> bool:
    """Whether the muxer writes a header for this stream.

    No function answers this: `avformat_query_codec` does not know codecs that Matroska stores in
        AVI's form (WMA, ADPCM, AMR, AAC in LATM).
    """
    av = require("av", "video")
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        _copy_of(stream, trial)
        trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    finally:
        # Without a packet MP4 cannot be finished with AC-3. The header alone is what counts.
        with suppress(av.FFmpegError):
            trial.close()
    return True


def _copy_of(stream: Any, output: OutputContainer) -> Stream:
    try:
        copy: Any = output.add_stream_from_template(stream)
    except ValueError:
        copy = _unasked_copy_of(stream, output)
    is_decoded = stream.codec_context is not None
    if stream.type == "audio" and is_decoded and not _has_named_channels(stream):
        # AVI and others give only the number of channels. MP4 needs their layout, and fails at its
        # end.
        with suppress(ValueError):  # this number of channels has no standard layout
            copy.layout = f"{stream.layout.nb_channels}c"
    copy.disposition = stream.disposition
    copy.metadata.update(described(stream.metadata))
    added: Stream = copy
    return added


def _has_named_channels(stream: Any) -> bool:
    return any(channel.name != "NONE" for channel in stream.layout.channels)


def _unasked_copy_of(stream: Stream, output: OutputContainer) -> Any:
    """A copy of a stream, without PyAV's call of `avformat_query_codec`.

    It adds a stream of another codec, to which a null bitstream filter gives the source's
    parameters. So no decoder is needed either.

    Raises:
        ValueError: the stream is neither sound nor subtitles.
    """
    av = require("av", "video")
    container = output.format.name
    other = _KNOWN.get((stream.type, container))
    if other is None:
        raise ValueError(f"{container} does not accept {_named(stream)}")
    copy = output.add_stream_from_template(
        av.open(io.BytesIO(), "w", format=container).add_stream(other)
    )
    filters = require("av.bitstream", "video")
    filters.BitStreamFilterContext("null", in_stream=stream, out_stream=copy)
    # The source's tag may mean another codec in another container
    copy.codec_context.codec_tag = _NO_TAG
    copy.time_base = stream.time_base
    return copy


def _named(stream: Any) -> str:
    if stream.codec_context:
        codec = f" in {stream.codec_context.codec.canonical_name}"
    else:
        codec = ", such as teletext" if stream.type == "subtitle" else ""
    return f"stream {stream.index} ({stream.type}{codec})"


def not_held(streams: Iterable[Stream], path: Path) -> VideoError:
    """The error for an output that cannot hold these streams of the input."""
    streams = list(streams)
    kinds = ",".join(dict.fromkeys(kind_of(stream) for stream in streams))
    other = "re-encode it" if path.suffix.lower() == ".mkv" else "write .mkv"
    found = " or ".join(map(_named, streams))
    return VideoError(
        f"output {quoted(path)} | {path.suffix} cannot hold {found} of the input | "
        f"{other}, or leave it out with --drop {kinds}"
    )
