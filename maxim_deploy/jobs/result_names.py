"""Names of results, and of what lies beside them."""

from __future__ import annotations

import os
from pathlib import Path

from maxim_deploy.imaging.video.names import is_video, result_suffix

LONGEST_NAME = 255
"""Bytes that file systems take for the name of a file, nearly all of them."""


def result_name(source: Path) -> str:
    """The name of a result in a folder."""
    return f"{source.stem}{result_suffix(source) if is_video(source) else '.png'}"


def comparison_beside(target: Path) -> Path:
    """Where the before/after picture or video of a result goes."""
    suffix = target.suffix if is_video(target) else ".png"
    return target.with_name(f"{target.stem}.before-after{suffix}")


def incomplete_beside(target: Path) -> Path:
    """Where the frames go that a video had before something went wrong."""
    stem, ending = target.stem, f".incomplete{target.suffix}"
    # Frames are worth keeping under a name that is cut short.
    while len(os.fsencode(stem + ending)) > LONGEST_NAME:
        stem = stem[:-1]
    return target.with_name(stem + ending)


def is_beside(target: Path, source: Path) -> bool:
    """Whether a result lies in the folder of its input, by their true paths."""
    return os.path.realpath(target.parent) == os.path.realpath(source.parent)


def written(target: Path, compare: bool) -> list[Path]:
    """All files that a run may write for a result."""
    paths = [target, incomplete_beside(target)] if is_video(target) else [target]
    return [*paths, comparison_beside(target)] if compare else paths


def why_too_long(path: Path) -> str | None:
    """Why a path cannot be the name of a file, or None."""
    count = len(os.fsencode(path.name))
    if count <= LONGEST_NAME:
        return None
    return f"has a name of {count} bytes, and file systems take {LONGEST_NAME} | shorten it"
