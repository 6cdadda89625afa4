"""Plan how an image of some size will run, and in how much memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from maxim_deploy.errors import ImageTooLargeError, UsageError
from maxim_deploy.imaging.padding import Padding
from maxim_deploy.imaging.tiling import Tiling
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.tile_sizes import (
    TILE_SIDES,
    Sides,
    area,
    covered_by,
    smallest,
    tiles_for,
)
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.quantities import readable_bytes

DEFAULT_OVERLAP = 64
"""Default overlap of tiles in pixels. The measurements are in `benchmarks/README.md`."""

MAX_BATCH = 16
"""Most images in a run."""

RUN_BYTES = 500_000
"""Bytes beside a graph's run on a CPU that do not depend on size: code and tables touched first in
a call."""

RUN_BYTES_PER_PIXEL = 15
"""Bytes per pixel beside a run: the float32 RGB input (12), and the 8-bit result. The backend
counts the float32 RGB output."""

COVERED_BYTES_PER_PIXEL = 27
"""Bytes per pixel of an image in tiles: the image and the blend as float32 RGB (24), and the 8-bit
result (3)."""

SUM_BYTES_PER_PIXEL = 12
"""Bytes per pixel of a self-ensemble: the sum of the orientations as float32 RGB. An orientation
that runs whole takes as much again; tiles are cut from a view."""

TileOption = int | Literal["auto", "off"]


@dataclass(frozen=True)
class Bounds:
    """Limits of a run.

    Attributes:
        max_bytes: most bytes of a run, or None.
        max_pixels: most padded pixels of a run, after a larger run was out of memory; or None.
        self_ensemble: whether the image runs in eight orientations, for a self-ensemble.
        used: bytes of the process that were subtracted from the limit.
        is_promised: whether the limit is `max_memory`, which no run may exceed, even with the
            user's tiles.
    """

    max_bytes: int | None = None
    max_pixels: int | None = None
    self_ensemble: bool = False
    used: int = 0
    is_promised: bool = False

    def allow(self, size: int) -> bool:
        """Whether a run may take this many bytes."""
        return self.max_bytes is None or size <= self.max_bytes

    def __str__(self) -> str:
        """The limit in words."""
        if self.max_bytes is None:
            return "the available memory"
        if not self.used:
            limit = readable_bytes(self.max_bytes)
            return f"max_memory of {limit}" if self.is_promised else f"{limit} of memory"
        return (
            f"max_memory: the process already has {readable_bytes(self.used)} of "
            f"{readable_bytes(self.max_bytes + self.used)}"
        )


@dataclass(frozen=True)
class Planner:
    """Makes plans for a backend.

    Args:
        backend: the backend.
        tile: "auto" (whole if it fits), "off" (always whole), or the side of a tile.
        overlap: least number of pixels that tiles share; None for the default.

    Raises:
        UsageError: a tile is not a multiple of 64, or the overlap is too large for it.
    """

    backend: Backend
    tile: TileOption = "auto"
    overlap: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.tile, str) and self.tile not in ("auto", "off"):
            raise UsageError(f"tile must be 'auto', 'off' or a multiple of 64, not {self.tile!r}")
        side = self.tile if isinstance(self.tile, int) else TILE_SIDES[-1]
        if side < 1 or side % MULTIPLE_OF:
            raise UsageError(f"tile must be a multiple of {MULTIPLE_OF}, not {side}")
        self.tiling(2 * side, 2 * side, (side, side))  # raises an error for an invalid overlap

    def plan(self, height: int, width: int, bounds: Bounds, images: int = 1) -> Plan:
        """The plan of an image, or of the first of several.

        Args:
            height: of the image, at least 1.
            width: in pixels, of the same image.
            bounds: limits of each run.
            images: number of images of one padded size.

        Raises:
            ImageTooLargeError: even the smallest tile does not fit, or the requested tiles exceed
                `max_memory`.
            UsageError: the backend does not accept the shape.
        """
        padding = Padding(height, width)
        padded = padding.padded_height, padding.padded_width
        tile = self._tile(height, width, padded, bounds)
        if tile:
            padded = covered_by(tile, padded)
        one = self._run_shape(height, width, padded, tile)
        tiles = self.tiling(*padded, tile).count if tile else 1
        covered = area(padded) if tiles > 1 else 0
        batch = self._batch(one, tiles if tiles > 1 else images, covered, bounds)
        plan = Plan(
            height=height,
            width=width,
            padded=padded,
            tile=tile,
            overlap=self._overlap() if tiles > 1 else 0,
            tiles=tiles,
            batch=batch,
            bytes=self._bytes(_times(one, batch), covered, bounds),
            limit=None if bounds.max_bytes is None else max(0, bounds.max_bytes),
            backend=self.backend.name,
            precision=self.backend.precision,
            self_ensemble=bounds.self_ensemble,
        )
        plan = replace(plan, lanes=self._lanes(plan))
        if bounds.is_promised and not bounds.allow(plan.bytes):
            raise ImageTooLargeError(
                f"image of {height}x{width} | {plan.how}, in {readable_bytes(plan.bytes)} | "
                f"{bounds} | leave tile at 'auto', choose smaller tiles, or raise max_memory"
            )
        return plan

    def tiling(self, height: int, width: int, tile: Sides) -> Tiling:
        """The tiling of a padded image."""
        return Tiling(height, width, tile, self._overlap())

    def largest_side(self, bounds: Bounds) -> int:
        """Side of the largest square image that would run whole within these limits.

        A binary search, because memory and profiles are nearly monotonous in the side. It queries
        the backend about hypothetical sizes, so it is not for every call.
        """
        side, step = 0, 16384
        while step >= MULTIPLE_OF:
            larger = side + step
            if self._fits(Shape(1, larger, larger), 0, bounds):
                side = larger
            step //= 2
        return side

    def _lanes(self, plan: Plan) -> int:
        """The number of these runs that fit the limit concurrently."""
        # On a device, lanes hold their memory before and after a run.
        if not self.backend.uses_host_memory or plan.limit is None:
            return 1 if plan.limit is not None else self.backend.lanes
        return max(1, min(self.backend.lanes, plan.limit // plan.bytes))

    def _batch(self, one: Shape, count: int, covered: int, bounds: Bounds) -> int:
        """The batch size for `count` shapes: few runs of about equal size."""
        gainful = self.backend.batch_pixels
        for several in range(min(count, MAX_BATCH), 1, -1):
            shape = _times(one, several)
            if gainful is not None and shape.padded_pixels > gainful:
                continue
            if self._fits(shape, covered, bounds):
                # As few runs as possible, but equal ones: 10 images run as 5 and 5 rather than 8
                # and 2.
                even = -(-count // -(-count // several))
                return even if self._takes(_times(one, even), bounds) else several
        return 1

    def _overlap(self) -> int:
        if self.overlap is not None:
            return self.overlap
        return 0 if self.tile == MULTIPLE_OF else DEFAULT_OVERLAP

    def _tile(self, height: int, width: int, padded: Sides, bounds: Bounds) -> Sides | None:
        whole = self._run_shape(height, width, padded, None)
        if self.tile == "off":
            if not self._takes(whole, bounds):
                raise UsageError(
                    f"image of {height}x{width}, padded to {padded[0]}x{padded[1]} | "
                    f"{self.backend.name} does not accept this size | leave tile at 'auto', or "
                    "build an engine with a --profile for it"
                )
            return None
        # A user who names a side wants these tiles, for any amount of memory.
        if isinstance(self.tile, int):
            bounds = Bounds(self_ensemble=bounds.self_ensemble)
        may_be_whole = self.tile == "auto" or max(padded) <= self.tile
        if may_be_whole and self._fits(whole, 0, bounds):
            return None
        tiles = self._taken_tiles(padded, bounds)
        for tile in tiles:
            if self._fits(Shape(1, *tile), area(covered_by(tile, padded)), bounds):
                return tile
        image = f"image of {height}x{width}"
        if not tiles:
            sizes = self.backend.sizes if self.backend.profiles else "other sizes"
            raise UsageError(
                f"{image} | {self.backend.name} accepts only {sizes}, which do not fit as tiles | "
                "choose another tile, or build an engine with a --profile for it"
            )
        raise ImageTooLargeError(
            f"{image} | even tiles of {smallest(tiles)} do not fit {self.backend.name} and "
            f"{bounds} | allow more memory"
        )

    def _taken_tiles(self, padded: Sides, bounds: Bounds) -> list[Sides]:
        """The tiles that the backend accepts and that exceed the overlap."""
        # A tile must be larger than the overlap, or it covers no pixels of its own.
        one_side = self.tile if isinstance(self.tile, int) else None
        least = self._overlap() + MULTIPLE_OF
        return [
            tile
            for tile in tiles_for(padded, self.backend.profiles, one_side)
            if all(side >= min(least, of) for side, of in zip(tile, padded, strict=True))
            and min(tile) > 0
            and self._takes(Shape(1, *tile), bounds)
        ]

    def _run_shape(self, height: int, width: int, padded: Sides, tile: Sides | None) -> Shape:
        if tile is None and self.backend.io == "image":
            return Shape(1, height, width)  # the image form pads inside the graph
        return Shape(1, *(tile or padded))

    def _takes(self, shape: Shape, bounds: Bounds) -> bool:
        turned = Shape(shape.batch, shape.width, shape.height) if bounds.self_ensemble else shape
        return self.backend.takes(shape) and self.backend.takes(turned)

    def _fits(self, shape: Shape, covered: int, bounds: Bounds) -> bool:
        return (
            self._takes(shape, bounds)
            and (bounds.max_pixels is None or shape.padded_pixels <= bounds.max_pixels)
            and bounds.allow(self._bytes(shape, covered, bounds))
        )

    def _bytes(self, shape: Shape, covered: int, bounds: Bounds) -> int:
        """Memory of a run and of the pixels that tiles cover (0 for a whole image)."""
        host = RUN_BYTES + RUN_BYTES_PER_PIXEL * shape.pixels + COVERED_BYTES_PER_PIXEL * covered
        if bounds.self_ensemble:
            host += SUM_BYTES_PER_PIXEL * (covered or 2 * shape.pixels)
        # Arrays on the host do not count for the memory of a device.
        return self.backend.bytes_for(shape) + (host if self.backend.uses_host_memory else 0)


def _times(shape: Shape, count: int) -> Shape:
    return Shape(shape.batch * count, shape.height, shape.width)
