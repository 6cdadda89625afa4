"""Estimates the work of a job from the headers of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from maxim_deploy.errors import MaximDeployError
from maxim_deploy.imaging.files import read_image_size
from maxim_deploy.imaging.video import VideoReader, is_video

MOST_FILES = 64
"""Files that are opened, spread evenly over the job. They stand for the other files."""

FRAMES = 250
"""Frames assumed for a video, because its file need not state its length: ten seconds. A longer
video makes the choice pay even more."""


def expected_work(sources: Sequence[Path]) -> dict[tuple[int, int], int]:
    """Estimate how many pictures of each (height, width) a job will restore.

    A file that cannot be read is skipped; the job reports why.

    Args:
        sources: images and videos.
    """
    step = -(-len(sources) // MOST_FILES) or 1
    work: Counter[tuple[int, int]] = Counter()
    for source in sources[::step]:
        with suppress(MaximDeployError, OSError):
            if is_video(source):
                reader = VideoReader(source)
                reader.close()
                work[reader.height, reader.width] += FRAMES * step
            else:
                work[read_image_size(source)] += step
    return dict(work)
