"""Descriptive metadata of a video file: titles, languages, chapters and more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

    from maxim_deploy.imaging.video.reading import VideoReader

_OF_THE_CONTAINER = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate"}
    | {"handler_name", "vendor_id"}
)
"""Metadata about the writing of the source, which would be wrong for the result."""

_STATISTICS = re.compile(
    r"(_STATISTICS_\w+|BPS|NUMBER_OF_FRAMES|NUMBER_OF_BYTES)(-\w+)?|DURATION-\w+", re.IGNORECASE
)
"""Matroska's statistics of the source. Some keys end in the language."""


def container_options(source: InputContainer, container: str) -> dict[str, str]:
    """Muxer options that keep the metadata of the source."""
    # Names with dots are QuickTime's. Its newer form takes any name, the older one a fixed list.
    has_names = any("." in key for key in source.metadata)
    return {"movflags": "use_metadata_tags"} if has_names and container != "matroska" else {}


def copy_description(source: VideoReader, output: OutputContainer, video: Stream) -> None:
    """Copy titles, languages and chapters of the file and of its video stream."""
    output.metadata.update(described(source.container.metadata))
    output.set_chapters(source.container.chapters())
    video.metadata.update(described(source.stream.metadata))
    video.disposition = source.stream.disposition


def described(metadata: dict[str, str]) -> dict[str, str]:
    """The metadata that are still true of the result."""
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OF_THE_CONTAINER and not is_statistic(key)
    }


def is_statistic(key: str) -> bool:
    """Whether this key is a statistic of the source."""
    return _STATISTICS.fullmatch(key) is not None
