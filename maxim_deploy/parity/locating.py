"""Find the first inner tensor that departs by more than rounding explains.

Two forms of a network are compared at their common points (`points`), and two graphs of one form
node by node. The error at a point is the root mean square of the difference over that of the
tensor. The effect of rounding is measured: a PyTorch module also runs in float64, and a
low-precision graph is compared with a new one made by the default decision table.

If the float32 graph agrees with the literal network, examine the low-precision graph. If not,
compare the deployment form with the literal one, then the graph with the deployment form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import UsageError
from maxim_deploy.imaging import Padding, to_unit
from maxim_deploy.imaging.pixels import to_batch
from maxim_deploy.parity.comparison import json_number
from maxim_deploy.parity.inspected import InspectedNetwork, inspect_stage, simulated_reference
from maxim_deploy.parity.pictures import Sample
from maxim_deploy.parity.probes import ModuleProbe, Probe, as_rows
from maxim_deploy.spec.places import published_name
from maxim_deploy.spec.precision import FULL, lower_of

FACTOR = 4
"""Allowed ratio of an error to the measured rounding. S-2, the demo model and small networks at
64x64 had at most 1.7 times PyTorch's own difference from float64 at any point. The smallest known
fault, LayerNorm's epsilon, is 400 times that at the next point."""

LOW_FACTOR = 1.25
"""The same for low precision, whose rounding is measured on an equal graph. The errors were
equal."""

UNIT = 2.0**-24
"""Half the relative distance of float32 neighbours: a smaller error is never a departure."""


@dataclass(frozen=True)
class PointError:
    """A compared point.

    Attributes:
        name: of the point; see `points`, or of the node.
        error: root mean square of the difference over that of B's tensor.
        allowed: largest error that rounding explains.
        published: module of the published network that a node of the deployment form belongs to;
            None outside of all modules, and where `name` is that of a module itself.
    """

    name: str
    error: float
    allowed: float
    published: str | None = None

    @property
    def departs(self) -> bool:
        """Whether rounding does not explain the error. It never explains NaN."""
        return not self.error <= self.allowed

    def __str__(self) -> str:
        return f"{self.name} ({self.published})" if self.published else self.name


@dataclass(frozen=True)
class Located:
    """The comparison at all points.

    Attributes:
        a: the stage to judge.
        b: what it should be.
        image: name of the picture.
        points: in the order in which B computes them.
    """

    a: str
    b: str
    image: str
    points: list[PointError]

    @property
    def first(self) -> PointError | None:
        """The first point that departs; None if all agree."""
        return next((point for point in self.points if point.departs), None)

    @property
    def last_agreeing(self) -> PointError | None:
        """The point before the first departure. The fault lies between both."""
        agreeing = self.points[: self.points.index(self.first)] if self.first else self.points
        return agreeing[-1] if agreeing else None

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        first, before = self.first, self.last_agreeing
        return {
            "a": self.a,
            "b": self.b,
            "image": self.image,
            "first_departure": first.name if first else None,
            "last_agreeing": before.name if before else None,
            "passed": first is None,
            "points": [
                {**{k: json_number(v) for k, v in asdict(p).items()}, "departs": p.departs}
                for p in self.points
            ],
        }


def locate(a: str, b: str, sample: Sample, precision: str | None = None) -> Located:
    """Compare two stages from input to output.

    Args:
        a: the stage to judge.
        b: what it should be.
        sample: the picture; padded as published.
        precision: of bundles named without a stage.

    Raises:
        UsageError: a stage has no tensors inside, or the two have too few in common.
        MaximDeployError: a stage cannot be opened.
    """
    networks = inspect_stage(a, precision), inspect_stage(b, precision)
    return Located(a, b, sample.name, walk(*networks, _batch(sample)))


def walk(
    first: InspectedNetwork, second: InspectedNetwork, image: NDArray[np.float32]
) -> list[PointError]:
    """Every point of A against B's, for a batch `[N, 3, H, W]` in [0, 1].

    Raises:
        UsageError: the two have no tensor in common, or one of another size.
    """
    pairs = _pairs(first, second, image)
    found, expected = ([pair[side] for pair in pairs] for side in (1, 2))
    errors = _errors(first.probe, found, second.probe, expected, image)
    if not errors:
        raise UsageError("the stages have no tensor in common: nothing was compared")
    rounding = _rounding(first, second, pairs, image)
    limits = [_allowed(first, second, rounding, name) for name, _, _ in pairs]
    return [
        PointError(name, error, limit, published_name(name, second.architecture.stages))
        for (name, _, _), error, limit in zip(pairs, errors, limits, strict=True)
    ]


Pairs = list[tuple[str, str, str]]
"""Name of a point, and of its tensor in A and in B."""


def _pairs(a: InspectedNetwork, b: InspectedNetwork, image: NDArray[np.float32]) -> Pairs:
    for network in (a, b):
        if isinstance(network.probe, ModuleProbe):
            network.probe.run(image)  # only then are its names complete and in order
    if a.form == b.form and isinstance(a.probe, ModuleProbe) == isinstance(b.probe, ModuleProbe):
        known = set(a.probe.names)
        return [(name, name, name) for name in b.probe.names if name in known]
    points_a, points_b = a.probe.by_point, b.probe.by_point
    return [(p, points_a[p], points_b[p]) for p in points_b if p in points_a]


def _errors(
    a: Probe, names_a: Sequence[str], b: Probe, names_b: Sequence[str], image: NDArray[np.float32]
) -> list[float]:
    values = zip(a.values(names_a, image), b.values(names_b, image), strict=True)
    return [_error(name, found, expected) for (name, found), (_, expected) in values]


def _error(name: str, found: NDArray[Any], expected: NDArray[Any]) -> float:
    rows, target = as_rows(found), as_rows(expected)
    if rows.shape != target.shape:
        raise UsageError(
            f"{name} has {rows.shape[0]}x{rows.shape[1]} values in one and "
            f"{target.shape[0]}x{target.shape[1]} in the other; are they the same network?"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        difference = float(np.square(rows - target).mean())
        scale = float(np.square(target).mean())
    if difference == 0:
        return 0.0
    # A tensor of zeros has no scale, so every difference from it is a departure.
    return math.sqrt(difference / scale) if scale else math.inf


def _rounding(
    a: InspectedNetwork, b: InspectedNetwork, pairs: Pairs, image: NDArray[np.float32]
) -> dict[str, float]:
    """The error that rounding alone makes at each point, where it can be measured."""
    names = [point for point, _, _ in pairs]
    if a.precision == b.precision == FULL:
        for network, side in ((b, 2), (a, 1)):
            if isinstance(network.probe, ModuleProbe):
                own = [pair[side] for pair in pairs]
                # The same weights and operations: the difference is float32's rounding, accumulated
                # in this network on this picture.
                exact = network.probe.exact()
                return dict(zip(names, _errors(network.probe, own, exact, own, image), strict=True))
        return {}
    low, full = (a, b) if b.precision == FULL else (b, a)
    if full.precision != FULL or full.graph is None or low.graph is None or low.form != full.form:
        return {}
    reference = simulated_reference(full, low.precision)
    known = set(reference.names)
    shared = [name for name in names if name in known]
    errors = _errors(reference, shared, full.probe, shared, image)
    return dict(zip(shared, errors, strict=True))


def _allowed(
    a: InspectedNetwork, b: InspectedNetwork, rounding: dict[str, float], name: str
) -> float:
    lower = lower_of((a.precision, b.precision))
    if name in rounding:
        # Without rounding, as in a copy, half a unit in the last place still passes.
        return (FACTOR if lower.name == FULL else LOW_FACTOR) * rounding[name] + UNIT
    # Two graphs, or low precision against a module: nothing to measure its rounding with.
    return lower.point_error


def _batch(sample: Sample) -> NDArray[np.float32]:
    image = to_unit(sample.pixels)
    return to_batch(Padding(*image.shape[:2]).apply(image))
