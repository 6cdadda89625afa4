"""What a result lacks of its source, found by reading it.

Muxers leave out without a word what their container has no place for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy.errors import VideoError
from maxim_deploy.imaging.video.reading import VideoReader
from maxim_deploy.imaging.video.streams import described, is_statistic

if TYPE_CHECKING:
    from av.stream import Stream

_OF_THE_FILE = frozenset({"creation_time", "timecode"})
"""Metadata of streams that MP4 repeats, and that results have once."""


def check_result(
    source: VideoReader, path: Path, name: Path, copies: Mapping[int, int]
) -> list[str]:
    """What the result lacks, in words.

    Args:
        source: what it was made of.
        path: where the result is.
        name: what it will be called.
        copies: its streams by those of the source, both as indices.

    Raises:
        VideoError: it cannot be read.
    """
    try:
        made = VideoReader(path)
    except VideoError as error:
        why = str(error).removeprefix(f"video '{path}' | ")
        raise VideoError(f"output '{name}' | is written, but cannot be read: {why}") from error
    try:
        return list(dict.fromkeys(_lost(source, made, copies)))
    finally:
        made.close()


def _lost(source: VideoReader, made: VideoReader, copies: Mapping[int, int]) -> Iterator[str]:
    before, after = source.container, made.container
    yield from _lost_metadata(before.metadata, after.metadata)
    if len(after.chapters()) < len(before.chapters()):
        yield "chapters"
    if source.chroma_location and made.chroma_location != source.chroma_location:
        yield "location of chroma"
    streams: list[tuple[Stream, Stream]] = [(source.stream, made.stream)]
    streams += [(before.streams[old], after.streams[new]) for old, new in copies.items()]
    for old, new in streams:
        of_file = {key: after.metadata.get(key, "") for key in _OF_THE_FILE}
        yield from _lost_metadata(old.metadata, {**new.metadata, **of_file})
        if missing := old.disposition & ~new.disposition:
            yield f"disposition {missing.name} of stream {old.index}"


def _lost_metadata(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    kept = {_folded(key) for key in after}
    yield from (
        key
        for key, value in described(dict(before)).items()
        if _folded(key) not in kept and (key, value) != ("language", "und")
    )
    if any(is_statistic(key) for key in before):
        yield "statistics of its streams, which are no longer true"


def _folded(key: str) -> str:
    """Matroska writes names in capitals, without spaces."""
    return key.casefold().replace(" ", "_")
