"""The pictures that stages are compared on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import ImageError, UsageError, quoted
from maxim_deploy.imaging.files import INPUT_SUFFIXES, read_image
from maxim_deploy.imaging.pixels import fitted

DEFAULT_SIZE = (256, 256)
"""Size of the built-in pictures: small enough for every stage of S-3 on a laptop."""


@dataclass(frozen=True)
class Sample:
    """One input picture.

    Attributes:
        name: file name without its suffix, or of our own.
        image: RGB `[H, W, 3]`, uint8, uint16 or float32 in [0, 1]; None where only results exist.
    """

    name: str
    image: NDArray[Any] | None

    @property
    def pixels(self) -> NDArray[Any]:
        """The image.

        Raises:
            UsageError: there is none.
        """
        if self.image is None:
            raise UsageError(f"picture {self.name!r} | its input is needed | pass --images DIR")
        return self.image


def own_samples(size: tuple[int, int] | None) -> list[Sample]:
    """A photograph, and noise of values 0 and 1, which is hard for low precision."""
    from maxim_deploy.checkpoints import demo_weights

    height, width = size or DEFAULT_SIZE
    photo = read_image(demo_weights().with_name("chelsea.png")).rgb
    # Only 0 and 1: the largest steps that a picture can have, so the largest values inside.
    noise = 255 * np.random.default_rng(0).integers(0, 2, (height, width, 3), np.uint8)
    return [Sample("chelsea", fitted(photo, height, width)), Sample("saturated noise", noise)]


def samples_in(folder: Path, size: tuple[int, int] | None) -> Iterator[Sample]:
    """The image files of a folder in the order of their names, each cut to `size` if one is given.

    Raises:
        UsageError: there is no such folder, or no image file in it.
        ImageError: a file cannot be read.
    """
    for name, path in image_files(folder).items():
        image = read_image(path).rgb
        yield Sample(name, fitted(image, *size) if size else image)


def image_files(folder: Path) -> dict[str, Path]:
    """The image files of a folder by name without suffix, sorted; hidden ones are left out.

    Raises:
        UsageError: there is no such folder, or no image file in it.
        ImageError: two files have one name.
    """
    if not folder.is_dir():
        raise UsageError(
            f"folder {quoted(folder)} | there is none | expected a folder of image files"
        )
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in INPUT_SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise UsageError(f"folder {quoted(folder)} | there is no image file in it")
    return _by_name(paths)


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        other = files.setdefault(path.stem, path)
        if other != path:
            raise ImageError(
                f"{quoted(path)} and {quoted(other.name)} have one name | rename one of them"
            )
    return files
