"""Candidate tile sizes of a backend, by its profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from maxim_deploy.imaging.padding import Padding
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.profiles import Profile, Shape

Sides = tuple[int, int]
"""Height and width, multiples of 64."""

TILE_SIDES = (2048, 1536, 1024, 768, 512, 384, 256, 128)
"""Candidate sides of square tiles. MAXIM was trained on 256 and more. 192 is not used: on one of
six noisy pictures its largest step across a seam was 1.4 of 255 levels above those around it."""


def tiles_for(padded: Sides, profiles: Sequence[Profile], side: int | None = None) -> list[Sides]:
    """Tiles in the order of preference: those that pad the image least, then large before small.

    A tile is not larger than the image if a profile accepts that. Otherwise it is as small as the
    profile allows, and the image is padded to it.

    Args:
        padded: padded size of the image.
        profiles: ranges of valid tiles; empty for a backend that accepts any size.
        side: largest side of square tiles; None to choose.
    """
    squares = [(each, each) for each in (TILE_SIDES if side is None else (side,))]
    if not profiles:
        found = {_each(min, square, padded) for square in squares}
    else:
        found = set()
        for profile in profiles:
            low, tuned, high = _up(profile.min), _down(profile.opt), _down(profile.max)
            for wanted in [*squares, tuned, high]:
                found.add(_each(min, high, _each(max, low, _each(min, wanted, padded))))
    allowed = [tile for tile in found if side is None or max(tile) <= side]
    return sorted(allowed, key=lambda tile: (area(covered_by(tile, padded)), -area(tile), tile))


def covered_by(tile: Sides, padded: Sides) -> Sides:
    """The size that tiles cover: the image, padded if it is smaller than a tile."""
    return _each(max, padded, tile)


def area(sides: Sides) -> int:
    """Pixels."""
    return sides[0] * sides[1]


def smallest(tiles: Iterable[Sides]) -> str:
    """The smallest tile, in words."""
    return "{}x{}".format(*min(tiles, key=area))


def _each(choose: Callable[[int, int], int], a: Sides, b: Sides) -> Sides:
    return choose(a[0], b[0]), choose(a[1], b[1])


def _down(shape: Shape) -> Sides:
    return shape.height // MULTIPLE_OF * MULTIPLE_OF, shape.width // MULTIPLE_OF * MULTIPLE_OF


def _up(shape: Shape) -> Sides:
    padding = Padding(shape.height, shape.width)
    return padding.padded_height, padding.padded_width
