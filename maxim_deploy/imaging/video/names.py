"""Which files are videos, and in which containers results are written; by suffix alone."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy.errors import UsageError, nearest

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"}
    | {".wmv", ".flv", ".3gp", ".ogv"}
)

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""What is written: libav's name of the container, by suffix."""


def is_video(path: Path) -> bool:
    """Whether the name is one of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def result_suffix(source: Path) -> str:
    """The container of a result in a folder: the source's, or Matroska, which holds any stream."""
    suffix = source.suffix.lower()
    return ".mp4" if suffix == ".m4v" else suffix if suffix in CONTAINERS else ".mkv"


def check_video_output(path: Path) -> None:
    """Whether a video can be written to a file of this name.

    Raises:
        UsageError: it cannot; the message lists the suffixes of those that can.
    """
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(
            f"output '{path}' | suffix {suffix!r}{nearest(suffix, CONTAINERS)} | "
            f"videos are written as {', '.join(CONTAINERS)}"
        )
