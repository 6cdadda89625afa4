"""Find what a result lacks of its source by reading it.

Muxers silently drop what their container cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy.errors import VideoError, quoted
from maxim_deploy.imaging.video.description import described, is_statistic
from maxim_deploy.imaging.video.reading import VideoReader

if TYPE_CHECKING:
    from av.stream import Stream

_OF_THE_FILE = {"creation_time": ""}
"""Metadata that MP4 repeats for each stream, but that are compared once."""


def check_result(
    source: VideoReader, path: Path, name: Path, copies: Mapping[int, int]
) -> list[str]:
    """Contents that the result lacks, in words.

    Args:
        source: the source video.
        path: path of the result.
        name: final name of the result.
        copies: index of each copied stream in the result, by its index in the source.

    Raises:
        VideoError: it cannot be read.
    """
    try:
        made = VideoReader(path)
    except VideoError as error:
        why = str(error).removeprefix(f"video {quoted(path)} | ")
        raise VideoError(
            f"output {quoted(name)} | was written, but cannot be read: {why}"
        ) from error
    try:
        return list(dict.fromkeys(_lost(source, made, copies)))
    finally:
        made.close()


def _lost(source: VideoReader, made: VideoReader, copies: Mapping[int, int]) -> Iterator[str]:
    before, after = source.container, made.container
    # The timecode of a file becomes that of its video.
    yield from _lost_metadata(before.metadata, {**made.stream.metadata, **after.metadata})
    if len(after.chapters()) < len(before.chapters()):
        yield "chapters"
    is_subsampled_alike = made.coding.layout == source.coding.layout
    if is_subsampled_alike and source.chroma_location not in (None, made.chroma_location):
        yield "location of chroma"
    streams: list[tuple[Stream, Stream]] = [(source.stream, made.stream)]
    streams += [(before.streams[old], after.streams[new]) for old, new in copies.items()]
    for old, new in streams:
        for key in _lost_metadata(old.metadata, {**new.metadata, **_OF_THE_FILE}):
            yield f"{key} of stream {old.index}"
        if missing := old.disposition & ~new.disposition:
            yield f"disposition {missing.name} of stream {old.index}"
    if any(map(is_statistic, chain.from_iterable(old.metadata for old, _ in streams))):
        yield "statistics of streams, which are no longer true"


def _lost_metadata(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    kept = {_folded(key) for key in after}
    for key, value in described(dict(before)).items():
        if _folded(key) not in kept and (key, value) != ("language", "und"):
            yield key


def _folded(key: str) -> str:
    """Matroska writes names in capitals, without spaces."""
    return key.casefold().replace(" ", "_")
