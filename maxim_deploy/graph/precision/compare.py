"""Measure the difference of a low-precision graph from its float32 original."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.precision.session import open_network


@dataclass(frozen=True)
class Difference:
    """The difference of two results clipped to [0, 1] and not rounded to 8 bits.

    Attributes:
        max_error: largest absolute difference; 1/255 is one 8-bit step.
        mean_error: mean absolute difference.
        psnr: dB with a peak of 1; infinite for equal results.
    """

    max_error: float
    mean_error: float
    psnr: float

    def to_json(self) -> dict[str, float | None]:
        """The numbers by name; None for an infinite one, because JSON has no infinity."""
        return {key: x if math.isfinite(x) else None for key, x in asdict(self).items()}


def difference(found: NDArray[np.floating], expected: NDArray[np.floating]) -> Difference:
    """Compare two results in float64 after clipping to [0, 1].

    Raises:
        ExportError: a value is not finite, the shapes differ, or the results are empty.
    """
    if found.shape != expected.shape or found.size == 0:
        raise ExportError(f"cannot compare results of shapes {found.shape} and {expected.shape}")
    for name, result in (("result", found), ("expected result", expected)):
        bad = int(np.size(result) - np.isfinite(result).sum())
        if bad:
            raise ExportError(f"{bad} of {result.size} values of the {name} are not finite")
    # Clipped, because every form ends in a picture. In float64, to add no rounding.
    error = np.abs(np.clip(found, 0, 1).astype(np.float64) - np.clip(expected, 0, 1))
    mean_square = float(np.square(error).mean())
    psnr = -10 * math.log10(mean_square) if mean_square else math.inf
    return Difference(float(error.max()), float(error.mean()), psnr)


def compare_graphs(
    candidate: ir.Model, original: ir.Model, pictures: Mapping[str, NDArray[np.float32]]
) -> dict[str, Difference]:
    """Run both graphs on ONNX Runtime's CPU provider, and return the difference of each picture.

    The CPU computes float16 in float32 between casts, so this shows the rounding of stored values
    but not the loss in a GPU's accumulators. It supports hardly any bfloat16, so pass a graph made
    by `simulated_in_float32`.

    Args:
        candidate: the graph to judge.
        original: the float32 graph.
        pictures: pictures by name, float32 [N, 3, H, W] in [0, 1], H and W multiples of 64.

    Raises:
        ExportError: as `difference` does, or there is no picture.
    """
    if not pictures:
        raise ExportError("no picture was given to compare the graphs on")
    first, second = open_network(original), open_network(candidate)
    results = {}
    for name, picture in pictures.items():
        try:
            results[name] = difference(second(picture), first(picture))
        except ExportError as error:
            raise ExportError(f"picture {name!r}: {error}") from error
    return results
