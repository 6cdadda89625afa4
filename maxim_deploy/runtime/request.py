"""What `load` was asked for, and what of the bundle answers it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maxim_deploy.errors import BackendError, BundleError
from maxim_deploy.machine.gpu import find_gpu, no_gpu
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.manifest import Bundle, GraphEntry
from maxim_deploy.spec.precision import GPU_PRECISIONS

FORMS = ("tensor", "image")
"""Best first: the tensor form takes every pixel type."""


@dataclass(frozen=True)
class Request:
    """What a backend is to open.

    Attributes:
        bundle: to run.
        precision: "auto", or the one to run.
        device: index of the GPU.
        threads: of the CPU, or None.
        stream: handle of a CUDA stream, or None.
        cuda: provider of CUDA, "cuda-bindings" or "pycuda".
        backend: name of the backend that is asked.
        allow_host_code: whether code for the CPU that an engine brings may run.
        spinning: whether threads of the CPU wait in a loop; None to choose.
        runtime: what the runtime of an engine is to choose instead of the engine's own `runtime`.
        max_memory: bytes: of the whole process on a CPU, of a run on a GPU; None for what is free.
        expected: how many pictures of which (height, width) will be restored, as far as is known.
    """

    bundle: Bundle
    precision: str = "auto"
    device: int = 0
    threads: int | None = None
    stream: int | None = None
    cuda: str = "cuda-bindings"
    backend: str = ""
    allow_host_code: bool = False
    spinning: bool | None = None
    runtime: Mapping[str, Any] = field(default_factory=dict)
    max_memory: int | None = None
    expected: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def best_graph(self, best_first: tuple[str, ...]) -> tuple[GraphEntry, Path]:
        """The graph to run and its file, whose hash and that of its weights were checked.

        The file is a copy that nobody else writes to, its weights beside it. It lasts as long as
        this request: open it now.

        Args:
            best_first: precisions that the backend runs.

        Raises:
            BundleError: the bundle has no such graph, or a file of it is missing or has changed.
        """
        entry, copy = self.best_entry(best_first), ExitStack()
        path = copy.enter_context(self.bundle.private_graph(entry))
        weakref.finalize(self, copy.close)
        return entry, path

    def best_entry(self, best_first: tuple[str, ...]) -> GraphEntry:
        """The graph to run, in words, as `best_graph`; its file is not touched."""
        have = {(entry.precision, entry.io): entry for entry in self.bundle.manifest.graphs}
        wanted = self._precisions(best_first)
        candidates = [(precision, io) for precision in wanted for io in FORMS]
        found = next((have[one] for one in candidates if one in have), None)
        return found or self.bundle.graph(*candidates[0])  # which says what there is instead

    def best_engines(self) -> list[EngineEntry]:
        """All engines for the backend that share the best precision and form there is.

        Raises:
            BundleError: there is none, or only such as were built from another graph.
        """
        listed = [e for e in self.bundle.manifest.engines if e.library == self.backend]
        engines = [e for e in listed if not self.bundle.mismatches(e)]
        for precision in self._precisions(GPU_PRECISIONS):
            for io in FORMS:
                if found := [e for e in engines if (e.precision, e.io) == (precision, io)]:
                    return [replace(e, runtime={**e.runtime, **self.runtime}) for e in found]
        have = ", ".join(f"{e.precision} {e.io}" for e in engines) or "none"
        wanted = "" if self.precision == "auto" else f"{self.precision} "
        stale = f", and {len(listed) - len(engines)} of another graph" if engines != listed else ""
        path = self.bundle.path
        raise BundleError(
            f"bundle {str(path)!r} has no {wanted}engine of {self.backend} (it has: {have}{stale});"
            f" build one: maxim-export -o {path} --engine {self.backend} --profile photo"
        )

    def require_gpu(self) -> None:
        """Refuse what needs a GPU where there is none.

        Raises:
            BackendError: there is no such GPU.
        """
        if find_gpu(self.device) is None:
            raise BackendError(no_gpu(self.device))

    def _precisions(self, best_first: tuple[str, ...]) -> tuple[str, ...]:
        return best_first if self.precision == "auto" else (self.precision,)
