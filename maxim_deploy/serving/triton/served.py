"""A model on a running server, through either of tritonclient's two clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.serving.triton.tensors import INPUT, OUTPUT

_SCHEMES = {"http": "http", "https": "http", "grpc": "grpc", "grpcs": "grpc"}
"""Of a URL, and the module of tritonclient that speaks it."""


@dataclass(frozen=True)
class ServedModel:
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
def served_model(url: str, model: str, version: str, timeout: float) -> Iterator[ServedModel]:
    """A model on a server, for the block.

    Args:
        url: of the server.
        model: its name.
        version: of the model; empty for the server's choice.
        timeout: seconds for each answer.

    Raises:
        UsageError: the URL has another scheme.
        MissingDependencyError: tritonclient is not installed.
    """
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
        yield ServedModel(module, client, f"model {model!r} at {url}", model, version, timeout)
    finally:
        client.close()
