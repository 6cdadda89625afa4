"""What a job will restore, as far as its files tell before they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from maxim_deploy.errors import MaximDeployError
from maxim_deploy.imaging.files import read_image_size
from maxim_deploy.imaging.video import VideoReader, is_video

MOST_FILES = 64
"""So many are looked into, evenly over the job; the others are taken to be like them."""

FRAMES = 250
"""Of a video, whose length its file need not say: ten seconds. Longer ones pay all the more."""


def expected_work(sources: Sequence[Path]) -> dict[tuple[int, int], int]:
    """How many pictures of which (height, width) a job will restore, about.

    A file that cannot be read is passed over; the job says why.

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
