"""Choose the backend for a bundle."""

from __future__ import annotations

from maxim_deploy.errors import (
    BackendError,
    BundleError,
    MaximDeployError,
    MissingDependencyError,
)
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.expected_work import compiling_pays, in_words
from maxim_deploy.runtime.registry import automatic_backends, backend_named
from maxim_deploy.runtime.request import Request


def open_backend(request: Request, name: str) -> tuple[Backend, dict[str, str]]:
    """Open the requested backend, or the best that works here.

    Args:
        request: what to run.
        name: name of a backend, or "auto".

    Returns:
        (the backend, reasons against better ones by name).

    Raises:
        BundleError, MissingDependencyError, BackendError, UsageError: the backend does not work
            here. With "auto", the last candidate does not.
    """
    if name != "auto":
        return backend_named(name).open(request), {}
    not_taken: dict[str, str] = {}
    *better, last = automatic_backends()
    for candidate in better:
        if candidate.compiles_sizes and not compiling_pays(request.expected):
            not_taken[candidate.name] = (
                "it compiles the network for each size, which pays only if sizes repeat; "
                f"expected here: {in_words(request.expected)} | choose it by name, or say what to "
                "expect"
            )
            continue
        try:
            return candidate.open(request), not_taken
        except (BackendError, BundleError, MissingDependencyError) as error:
            not_taken[candidate.name] = str(error)
    try:
        return last.open(request), not_taken
    except MaximDeployError as error:
        error.add_note("\n".join(f"{name}: {why}" for name, why in not_taken.items()))
        raise
