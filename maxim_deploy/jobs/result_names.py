"""Names of results, and of the files beside them."""

from __future__ import annotations

import os
from pathlib import Path

from maxim_deploy.imaging.video.names import is_video, result_suffix

LONGEST_NAME = 255
"""Most bytes that nearly all file systems accept for the name of a file."""


def result_name(source: Path) -> str:
    """The name of a result in a folder."""
    return f"{source.stem}{result_suffix(source) if is_video(source) else '.png'}"


def comparison_beside(target: Path) -> Path:
    """The path of a result's before/after picture or video."""
    suffix = target.suffix if is_video(target) else ".png"
    return target.with_name(f"{target.stem}.before-after{suffix}")


def incomplete_beside(target: Path) -> Path:
    """The path for the frames of a video that ended early."""
    stem, ending = target.stem, f".incomplete{target.suffix}"
    # A shortened name is better than losing the frames.
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
    return f"has a name of {count} bytes | file systems take {LONGEST_NAME} | shorten it"
