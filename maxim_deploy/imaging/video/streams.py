"""What else is in a video file: streams that are copied packet by packet, titles, chapters."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from maxim_deploy.errors import VideoError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from av.container import OutputContainer
    from av.stream import Stream

    from maxim_deploy.imaging.video.reading import VideoReader

logger = logging.getLogger(__name__)

_OF_THE_CONTAINER = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate"}
    | {"handler_name", "vendor_id", "number_of_frames", "number_of_bytes", "bps"}
)
"""Metadata that describe how the source was written, and would be wrong of the result."""


def copied_streams(source: VideoReader, output: OutputContainer, path: Path) -> dict[int, Stream]:
    """Add the streams that are copied; by the index that their packets have in the source.

    Args:
        source: the video.
        output: where to; a video stream may be there already.
        path: of the output, for errors.

    Raises:
        VideoError: the container cannot hold a stream of sound or subtitles.
    """
    copies: dict[int, Stream] = {}
    for stream in source.container.streams:
        if stream.index == source.stream.index:
            continue  # is encoded anew
        # Attachments are fonts of subtitles; MP4 and MOV have no place for them.
        has_room = stream.type != "attachment" or output.format.name == "matroska"
        if stream.type not in ("audio", "subtitle", "attachment") or not has_room:
            logger.warning(
                "video '%s': stream %d (%s) is left out", source.path, stream.index, stream.type
            )
            continue
        copies[stream.index] = _copy_of(stream, output, path)
    return copies


def _copy_of(stream: Any, output: OutputContainer, path: Path) -> Stream:
    try:
        copy: Any = output.add_stream_from_template(stream)
    except ValueError as error:
        raise not_held([stream], path) from error
    if stream.type == "audio" and all(one.name == "NONE" for one in stream.layout.channels):
        # AVI and others say only how many there are. MP4 must know which, and fails at its end.
        with suppress(ValueError):  # there is no usual layout of so many
            copy.layout = f"{stream.layout.nb_channels}c"
    copy.disposition = stream.disposition
    copy.metadata.update(described(stream.metadata))
    added: Stream = copy
    return added


def not_held(streams: Iterable[Any], path: Path) -> VideoError:
    """The error where an output cannot hold one of these streams of the input."""
    named = [
        f"stream {stream.index} of the input, {stream.type} in "
        f"{stream.codec_context.name if stream.codec_context else 'an unknown codec'}"
        for stream in streams
    ]
    advice = "leave it out, or re-encode it" if path.suffix == ".mkv" else "write .mkv"
    found = " or ".join(named)
    return VideoError(f"output '{path}' | {path.suffix} cannot hold {found} | {advice}")


def copy_description(source: VideoReader, output: OutputContainer, video: Stream) -> None:
    """Titles, languages and chapters, of the file and of its video stream."""
    output.metadata.update(described(source.container.metadata))
    output.set_chapters(source.container.chapters())
    video.metadata.update(described(source.stream.metadata))
    video.disposition = source.stream.disposition


def described(metadata: dict[str, str]) -> dict[str, str]:
    """What still holds of the result."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OF_THE_CONTAINER and not key.startswith("_STATISTICS")
    }
