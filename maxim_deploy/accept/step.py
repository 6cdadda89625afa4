"""Inputs of a step, how it reports its outcome, and the pictures that all steps use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import MaximDeployError
from maxim_deploy.imaging import to_unit
from maxim_deploy.imaging.pixels import to_batch
from maxim_deploy.parity.pictures import own_samples
from maxim_deploy.parity.thresholds import threshold_for
from maxim_deploy.runtime import Restorer, load
from maxim_deploy.runtime.registry import BackendSpec, backend_named
from maxim_deploy.spec.precision import FULL

Numbers = dict[str, Any]
"""Measurements of a step: plain values by name, with the unit in the name."""

SMALL = (256, 256)
"""Height and width of a picture if the size does not matter."""

SETTLING_RUNS = 10
"""Runs until results must be stable. TensorRT for RTX runs a general kernel until it has compiled
the kernel for a shape."""

_FRAMES = {False: (640, 768), True: (1080, 1920)}
"""Height and width of a large picture, by whether it runs on a GPU."""


class FaultError(MaximDeployError):
    """The machine fails a check. `numbers` holds the measurements so far."""

    def __init__(self, reason: str, **numbers: Any) -> None:
        super().__init__(reason)
        self.numbers: Numbers = numbers


class CannotRunError(MaximDeployError):
    """The step needs something that this machine lacks, so it has no verdict."""


@dataclass(frozen=True)
class Setting:
    """Bundle and backend of a step; it is sent as JSON.

    Attributes:
        bundle: folder of the bundle. A step does not change its graphs.
        backend: name of the backend, or of the library that builds its engines.
    """

    bundle: str
    backend: str

    @property
    def spec(self) -> BackendSpec:
        """The backend's row in the registry."""
        return backend_named(self.backend)

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of a large picture that takes a few seconds at most."""
        return _FRAMES[self.spec.is_on_gpu]

    def open(self, **options: Any) -> Restorer:
        """Load the bundle on the backend; raises as `load`."""
        return load(self.bundle, backend=self.backend, **options)


def picture(size: tuple[int, int], number: int = 0) -> NDArray[np.uint8]:
    """A photograph of a size, `[H, W, 3]`; each `number` gives a different picture."""
    photo: NDArray[np.uint8] = own_samples(size)[0].pixels
    return np.roll(photo, 17 * number, axis=1)


def in_form(image: NDArray[np.uint8], io: str) -> NDArray[Any]:
    """A picture in a graph's form: `[1, H, W, 3]` uint8, or `[1, 3, H, W]` float32."""
    return image[None] if io == "image" else to_batch(to_unit(image))


def check_restored(restored: NDArray[Any], image: NDArray[Any]) -> None:
    """Raise an error for an output that no network could give for an image.

    Raises:
        FaultError: the shape or type differs, a value is not finite, or all pixels are equal.
    """
    found, expected = (f"{one.dtype} {one.shape}" for one in (restored, image))
    if found != expected:
        raise FaultError(f"result | {found} | expected {expected}, like the image")
    if not np.isfinite(restored).all():
        raise FaultError(f"result of {expected} | has values that are NaN or infinite")
    # A single pixel may become grey or white.
    if image.size > 3 and np.ptp(image) and not np.ptp(restored):
        raise FaultError(f"result of {expected} | is {restored.flat[0]} everywhere")


def largest_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest absolute difference of two arrays of one shape, in their own units."""
    return float(np.abs(found.astype(np.float64) - expected).max(initial=0))


def check_near(
    found: NDArray[Any], expected: NDArray[Any], precision: str, what: str, **numbers: Any
) -> None:
    """Raise an error if two 8-bit results differ by more than rounding explains.

    Args:
        found: one result, in levels.
        expected: the other.
        precision: precision of the network that made both.
        what: name of the results for the message.
        numbers: measurements so far.

    Raises:
        FaultError: the results differ by more.
    """
    levels = largest_difference(found, expected)
    most = threshold_for((precision, FULL), in_8_bits=2).max_error_levels
    if not levels <= most:
        reason = f"{what} | {levels:.2f} levels apart | expected at most {most:.2f} in {precision}"
        raise FaultError(reason, **numbers)


def same_bits(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> bool:
    """Whether all arrays are equal."""
    return all(map(np.array_equal, found, expected))


def settled(run: Callable[[], list[NDArray[Any]]]) -> list[NDArray[Any]]:
    """Return the result of `run` once it gives the same bits twice in a row.

    Raises:
        FaultError: the results keep changing.
    """
    before = run()
    for _ in range(SETTLING_RUNS):
        now = run()
        if same_bits(now, before):
            return now
        before = now
    raise FaultError(f"result | differs from run to run, {SETTLING_RUNS} times | expected the same")
