"""Pictures to a model on a running server, compared with what the bundle makes of them here.

Triton's health endpoints say nothing of a model's process: one that was killed never comes back,
and they all stay at 200. So a probe has to be a picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.hosts.sample import noisy_photograph
from maxim_deploy.runtime import Restorer
from maxim_deploy.serving.triton.tensors import INPUT, OUTPUT
from maxim_deploy.spec.precision import FULL, lower_of

CHECK_SIZES = ((1, 1), (33, 70), (64, 64), (256, 256), (300, 451))
"""(height, width) of the pictures, unless told otherwise: the smallest, odd ones, a multiple of 64,
and the whole photograph."""

SAME_PRECISION_LEVELS = 1
"""Largest difference in 8-bit steps where both compute in float32: pictures that share a run add
up in another order, which moves one value in ten thousand across a border."""

_SCHEMES = {"http": "http", "https": "http", "grpc": "grpc", "grpcs": "grpc"}
"""Of a URL, and the module of tritonclient that speaks it."""


@dataclass(frozen=True)
class Compared:
    """One picture, restored there and here.

    Attributes:
        height: of the picture.
        width: likewise.
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
        UsageError: the URL is none.
        MissingDependencyError: tritonclient is not installed.
        BackendError: the server does not answer, has no such model, or its answer is an error, of
            another shape or too far from ours.
    """
    with _server(url, model, version, timeout) as server:
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


@dataclass(frozen=True)
class _Server:
    """A model on a server, through one of tritonclient's two clients.

    Attributes:
        module: `tritonclient.http` or `tritonclient.grpc`.
        client: of this module.
        where: it is, for messages.
        model: its name.
        version: of the model; empty for the server's choice.
        timeout: seconds for each answer.
    """

    module: Any
    client: Any
    where: str
    model: str
    version: str
    timeout: float

    @property
    def is_http(self) -> bool:
        """Whether it speaks HTTP; gRPC otherwise."""
        return bool(self.module.__name__.endswith(".http"))

    def check_metadata(self) -> None:
        """Refuse a model that does not take pictures. Raises BackendError."""
        options = {} if self.is_http else {"as_json": True, "client_timeout": self.timeout}
        said = self._asked(
            lambda: self.client.get_model_metadata(self.model, self.version, **options)
        )
        found = [(end["name"], end["datatype"]) for end in (*said["inputs"], *said["outputs"])]
        if found != [(INPUT, "UINT8"), (OUTPUT, "UINT8")]:
            ends = ", ".join(f"{name!r} {kind}" for name, kind in found)
            raise BackendError(
                f"{self.where} | the model has {ends} | expected {INPUT!r} and {OUTPUT!r} of UINT8 "
                "| is it a model of maxim-deploy's, in the image form?"
            )

    def restored(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """What the server makes of a picture `[H, W, 3]`. Raises BackendError."""
        image = self.module.InferInput(INPUT, [1, *picture.shape], "UINT8")
        image.set_data_from_numpy(picture[np.newaxis])
        options = {} if self.is_http else {"client_timeout": self.timeout}
        # An output without its pixels is found out as it becomes an array.
        array = self._asked(
            lambda: self.client.infer(self.model, [image], self.version, **options).as_numpy(OUTPUT)
        )
        if array is None or array.ndim != 4 or len(array) != 1:
            raise BackendError(f"{self.where} | the answer has no picture {OUTPUT!r} in it")
        restored: NDArray[Any] = array[0]
        return restored

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        # A dozen unrelated classes: of tritonclient, of gevent and of the system's sockets.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise BackendError(
                f"{self.where} | {reason} | look at the server's log; a model whose process was "
                "killed works again after it is unloaded and loaded, or the server restarted"
            ) from error


@contextmanager
def _server(url: str, model: str, version: str, timeout: float) -> Iterator[_Server]:
    scheme, _, place = url.partition("://") if "://" in url else ("http", "", url)
    if scheme not in _SCHEMES or not place:
        raise UsageError(
            f"--check {url!r} | expected a URL such as http://localhost:8000 or "
            f"grpc://localhost:8001, with one of {', '.join(_SCHEMES)}"
        )
    require("tritonclient", "triton")
    module: Any = require(f"tritonclient.{_SCHEMES[scheme]}", "triton")
    options: dict[str, Any] = {"ssl": scheme in ("https", "grpcs")}
    if _SCHEMES[scheme] == "http":
        options |= {"connection_timeout": timeout, "network_timeout": timeout}
        # Without it certificates are not checked. It is offered a file of certificates that others
        # than the system trust.
        context = require("gevent.ssl", "triton").create_default_context
        options["ssl_context_factory"] = lambda **_: context()
    client = module.InferenceServerClient(place.rstrip("/"), **options)
    try:
        yield _Server(module, client, f"model {model!r} at {url}", model, version, timeout)
    finally:
        client.close()
