"""Optimization profiles: the image sizes that an engine accepts, and those it is tuned for.

A profile SPEC is a name, `HxW` for one size, or `MIN:OPT:MAX` with `HxW` each, optionally with a
batch after `@`: `@4` for batches of exactly 4, `@1:4:8` for 1 to 8 tuned for 4.

| name | min | opt | max |
|---|---|---|---|
| `720p` | 704x1280 | 720x1280 | 768x1280 |
| `1080p` | 1024x1920 | 1080x1920 | 1088x1920 |
| `4k` | 2112x3840 | 2160x3840 | 2176x3840 |
| `photo` | 256x256 | 1024x1536 | 2048x2048 |
| `tile512` | 512x512 | 512x512 | 512x512, batches of 1 to 8 |

`NAME-portrait` exchanges height and width. These are sizes of pictures for the `image` form. For
the `tensor` form they are rounded up to multiples of 64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from maxim_deploy.errors import UsageError, nearest
from maxim_deploy.spec.architecture import MULTIPLE_OF

MAX_ELEMENTS = 2**31 - 1
"""The most elements of a tensor that TensorRT accepts."""

WIDEST = 64
"""Channels of the widest tensor at full resolution, for 32 features, the paper's S."""

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """The shape of a batch of images."""

    batch: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Pixels of all images of the batch."""
        return self.batch * self.height * self.width

    @property
    def padded_pixels(self) -> int:
        """Pixels of all images, with each side padded for the network."""
        return self.batch * _up(self.height) * _up(self.width)

    def fits(self, low: Shape, high: Shape) -> bool:
        """Whether each number lies between those of `low` and `high`, inclusive."""
        return (
            low.batch <= self.batch <= high.batch
            and low.height <= self.height <= high.height
            and low.width <= self.width <= high.width
        )

    def dims(self, io: str) -> tuple[int, ...]:
        """The dimensions of a graph's input in this form."""
        if io == "image":
            return (self.batch, self.height, self.width, 3)
        return (self.batch, 3, self.height, self.width)

    @classmethod
    def from_dims(cls, dims: tuple[int, ...], io: str) -> Shape:
        """The inverse of `dims`."""
        batch, *sides = dims
        return cls(batch, *(sides[:2] if io == "image" else sides[1:]))

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}"
        return size if self.batch == 1 else f"{self.batch} of {size}"


@dataclass(frozen=True)
class Profile:
    """A range of shapes.

    Attributes:
        name: the SPEC that it was made from.
        min: the smallest batch, height and width.
        opt: the shape that the library tunes for.
        max: the largest.
    """

    name: str
    min: Shape
    opt: Shape
    max: Shape

    @property
    def fixed(self) -> bool:
        """Whether it accepts one shape only."""
        return self.min == self.max

    def takes(self, shape: Shape) -> bool:
        """Whether an engine can run this shape with it."""
        return shape.fits(self.min, self.max)

    def looseness(self) -> tuple[bool, int, int]:
        """A sort key: one shape comes before a range, a tight range before a wide one."""
        return not self.fixed, self.max.pixels, -self.min.pixels

    def overlaps(self, other: Profile) -> bool:
        """Whether the two ranges share a shape."""
        low = _each(max, self.min, other.min)
        high = _each(min, self.max, other.max)
        return low.fits(low, high)

    def __str__(self) -> str:
        shapes = f"{self.opt}" if self.fixed else f"{self.min} to {self.max}, tuned for {self.opt}"
        return f"{self.name} ({shapes})"


def _each(choose: Any, a: Shape, b: Shape) -> Shape:
    return Shape(*map(choose, (a.batch, a.height, a.width), (b.batch, b.height, b.width)))


_NAMED: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int], Triple]] = {
    "720p": ((704, 1280), (720, 1280), (768, 1280), (1, 1, 1)),
    "1080p": ((1024, 1920), (1080, 1920), (1088, 1920), (1, 1, 1)),
    "4k": ((2112, 3840), (2160, 3840), (2176, 3840), (1, 1, 1)),
    "photo": ((256, 256), (1024, 1536), (2048, 2048), (1, 1, 1)),
    "tile512": ((512, 512), (512, 512), (512, 512), (1, 8, 8)),
}

PORTRAIT = "-portrait"
PROFILE_NAMES = tuple(
    name + suffix
    for name, (_, opt, _, _) in _NAMED.items()
    for suffix in ("", PORTRAIT)
    if not suffix or opt[0] != opt[1]
)
"""The names that are valid as a SPEC."""

_FORMS = f"a name ({', '.join(PROFILE_NAMES)}), HxW, or MIN:OPT:MAX of HxW, and then @BATCH"


def profile_from_spec(spec: str, io: str) -> Profile:
    """The profile of a SPEC.

    Args:
        spec: see the module.
        io: form of the graph's input, "image" or "tensor".

    Raises:
        UsageError: the SPEC is malformed; min, opt and max do not ascend; the form does not accept
            a side; or a shape exceeds TensorRT's limit.
    """
    size, _, batch = spec.strip().partition("@")
    name = size.removesuffix(PORTRAIT)
    if size in PROFILE_NAMES:
        *sizes, batches = _NAMED[name]
        if size != name:
            sizes = [(width, height) for height, width in sizes]
        if io == "tensor":
            sizes = [(_up(height), _up(width)) for height, width in sizes]
    else:
        sizes, batches = _sizes(spec, size), (1, 1, 1)
    if "@" in spec:
        batches = _batches(spec, batch)
    shapes = [Shape(n, *sides) for n, sides in zip(batches, sizes, strict=True)]
    profile = Profile(spec.strip(), *shapes)
    _check(profile, io)
    return profile


def _up(side: int) -> int:
    return -(-side // MULTIPLE_OF) * MULTIPLE_OF


def _sizes(spec: str, text: str) -> list[tuple[int, int]]:
    parts = text.split(":")
    matches = [re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", part) for part in parts]
    if len(parts) not in (1, 3) or not all(matches):
        raise UsageError(f"unknown profile {spec!r}{nearest(text, PROFILE_NAMES)}; it is {_FORMS}")
    sizes = [(int(match[1]), int(match[2])) for match in matches if match]
    return sizes * 3 if len(sizes) == 1 else sizes


def _batches(spec: str, text: str) -> Triple:
    parts = text.split(":")
    if len(parts) not in (1, 3) or not all(re.fullmatch(r"[1-9]\d*", part) for part in parts):
        raise UsageError(f"profile {spec!r}: write the batch as @N or @MIN:OPT:MAX, not '@{text}'")
    low, middle, high = map(int, parts * 3 if len(parts) == 1 else parts)
    return low, middle, high


def _check(profile: Profile, io: str) -> None:
    where = f"profile {profile.name!r}"
    if not (
        profile.opt.fits(profile.min, profile.max) and profile.min.fits(profile.min, profile.max)
    ):
        raise UsageError(
            f"{where}: min {profile.min}, opt {profile.opt}, max {profile.max} must not descend in "
            "batch, height or width"
        )
    shapes = (profile.min, profile.opt, profile.max)
    if io == "tensor":
        for side in (side for shape in shapes for side in (shape.height, shape.width)):
            if side % MULTIPLE_OF:
                raise UsageError(
                    f"{where}: the tensor form takes sides in multiples of {MULTIPLE_OF}, "
                    f"not {side}; the next is {_up(side)}"
                )
    if profile.max.padded_pixels * WIDEST > MAX_ELEMENTS:
        raise UsageError(
            f"{where}: {profile.max} is {profile.max.padded_pixels / 1e6:.1f} megapixels with "
            f"sides padded to multiples of {MULTIPLE_OF}; tensors of {WIDEST} channels would have "
            f"more than 2^31 - 1 elements, TensorRT's limit: at most "
            f"{MAX_ELEMENTS / WIDEST / 1e6:.1f}"
        )


def profiles_from_specs(specs: Iterable[str], io: str) -> tuple[Profile, ...]:
    """The profiles of one engine, in the order given. Raises as `profile_from_spec` does.

    Raises:
        UsageError: there is no profile, or one twice.
    """
    profiles = tuple(profile_from_spec(spec, io) for spec in specs)
    if not profiles:
        raise UsageError(f"an engine needs at least one profile: {_FORMS}")
    seen: dict[tuple[Shape, ...], str] = {}
    for profile in profiles:
        shapes = (profile.min, profile.opt, profile.max)
        if shapes in seen:
            raise UsageError(f"profiles {seen[shapes]!r} and {profile.name!r} are the same")
        seen[shapes] = profile.name
    return profiles


def overlapping(profiles: Sequence[Profile]) -> list[tuple[str, str]]:
    """Pairs of names of profiles that share a shape. The tighter one runs the shared shapes."""
    return [(a.name, b.name) for a, b in combinations(profiles, 2) if a.overlaps(b)]


def tightest(profiles: Sequence[Profile], shape: Shape) -> int | None:
    """Index of the tightest profile that accepts a shape; None if no profile does."""
    fitting = [k for k, profile in enumerate(profiles) if profile.takes(shape)]
    return min(fitting, key=lambda k: profiles[k].looseness(), default=None)
