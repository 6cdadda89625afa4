"""Pictures to a model on a running server, compared with what the bundle makes of them here.

Triton's health endpoints say nothing of a model's process: one that was killed never comes back,
and they all stay at 200. So a probe has to be a picture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError
from maxim_deploy.hosts.sample import noisy_photograph
from maxim_deploy.runtime import Restorer
from maxim_deploy.serving.triton.served import served_model
from maxim_deploy.spec.precision import FULL, lower_of

CHECK_SIZES = ((1, 1), (33, 70), (64, 64), (256, 256), (300, 451))
"""(height, width) of the pictures, unless told otherwise: the smallest, odd ones, a multiple of 64,
and the whole photograph."""

SAME_PRECISION_LEVELS = 1
"""Largest difference in 8-bit steps where both compute in float32: pictures that share a run add
up in another order, which moves one value in ten thousand across a border."""


@dataclass(frozen=True)
class Compared:
    """One picture, restored there and here.

    Attributes:
        height: of the picture.
        width: of the picture.
        max_levels: largest difference in 8-bit steps.
        share: of the values that differ at all.
        seconds: from the request to the answer.
    """

    height: int
    width: int
    max_levels: int
    share: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        how = "equal" if self.max_levels == 0 else f"at most {self.max_levels} of 255 apart"
        return f"{self.height}x{self.width}: {how}, {1000 * self.seconds:.0f} ms"


def check_model(
    url: str,
    model: str,
    restorer: Restorer,
    sizes: Sequence[tuple[int, int]] = CHECK_SIZES,
    *,
    version: str = "",
    timeout: float = 60.0,
) -> Iterator[Compared]:
    """Send pictures to a model one by one, and compare each answer.

    Args:
        url: of the server: "http://HOST:8000", "https://...", "grpc://HOST:8001", "grpcs://...".
        model: its name in the repository.
        restorer: of the same bundle, here.
        sizes: (height, width) of the pictures.
        version: of the model; empty for the one that the server chooses.
        timeout: seconds for each answer.

    Raises:
        UsageError: the URL has another scheme.
        MissingDependencyError: tritonclient is not installed.
        BackendError: the server does not answer, has no such model, or its answer is an error, of
            another shape or too far from ours.
    """
    with served_model(url, model, version, timeout) as server:
        server.check_metadata()
        for height, width in sizes:
            picture = picture_of(height, width)
            began = time.perf_counter()
            answer = server.restored(picture)
            seconds = time.perf_counter() - began
            found = compared(answer, restorer(picture), seconds)
            _judge(found, restorer.info.precision)
            yield found


def picture_of(height: int, width: int) -> NDArray[np.uint8]:
    """A part of the photograph that comes with the package, with noise; repeated where it ends."""
    _, photograph = noisy_photograph()
    rows, columns = (
        np.arange(side) % of for side, of in zip((height, width), photograph.shape[:2], strict=True)
    )
    return np.ascontiguousarray(photograph[rows][:, columns])


def compared(answer: NDArray[np.uint8], expected: NDArray[np.uint8], seconds: float) -> Compared:
    """How far an answer is from what was expected; both uint8 `[H, W, 3]`.

    Raises:
        BackendError: the answer has another shape or type.
    """
    if answer.shape != expected.shape or answer.dtype != expected.dtype:
        raise BackendError(
            f"the server gave {answer.dtype} {list(answer.shape)} for a picture of "
            f"{list(expected.shape)} | expected the same shape, uint8 | with NumPy 2 in the "
            "server's Python, write the repository with this maxim-deploy again"
        )
    # Differences of uint8 wrap around.
    apart = np.abs(answer.astype(np.int16) - expected)
    height, width, _ = expected.shape
    return Compared(height, width, int(apart.max()), float((apart > 0).mean()), seconds)


def _judge(found: Compared, precision: str) -> None:
    """Refuse what is too far apart; in low precision as far as that precision may be."""
    limit = SAME_PRECISION_LEVELS
    if precision != FULL:
        limit = round(lower_of([precision]).limits.max_error_levels) + 1
    if found.max_levels > limit:
        raise BackendError(
            f"{found.height}x{found.width} | the server's answer differs by up to "
            f"{found.max_levels} of 255, in {100 * found.share:.1f} % of the values | at most "
            f"{limit} is expected in {precision} | check with the bundle and the --precision that "
            "the server has"
        )
