"""The request of `load`, and the parts of a bundle that match it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maxim_deploy.errors import BackendError, BundleError
from maxim_deploy.machine.gpu import find_gpu, no_gpu
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.precision import GPU_PRECISIONS

FORMS = ("tensor", "image")
"""I/O forms, the best first: the tensor form takes every pixel type."""


@dataclass(frozen=True)
class Request:
    """What a backend opens.

    Attributes:
        bundle: to run.
        precision: "auto", or the precision to run.
        device: index of the GPU.
        threads: threads of the CPU, or None.
        stream: handle of a CUDA stream, or None.
        cuda: provider of CUDA, "cuda-bindings" or "pycuda".
        backend: name of the backend.
        allow_host_code: whether CPU code of an engine may run.
        spinning: whether CPU threads wait in a loop; None to choose.
        runtime: runtime settings that replace the engine's own `runtime`.
        max_memory: limit in bytes: of the whole process on a CPU, of a run on a GPU; None for the
            free memory.
        expected: number of expected pictures by (height, width), as far as known.
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
        """The graph to run and its file, after comparing the hashes of file and weights.

        The file is a private copy with its weights beside it. It lasts as long as this request, so
        open it now.

        Args:
            best_first: precisions of the backend, the best first.

        Raises:
            BundleError: the bundle lacks the graph, or one of its files is missing or has changed.
        """
        entry, copy = self.best_entry(best_first), ExitStack()
        path = copy.enter_context(self.bundle.private_graph(entry))
        weakref.finalize(self, copy.close)
        return entry, path

    def best_entry(self, best_first: tuple[str, ...]) -> GraphEntry:
        """The entry of `best_graph`, without reading its file."""
        have = {(entry.precision, entry.io): entry for entry in self.bundle.manifest.graphs}
        wanted = self._precisions(best_first)
        candidates = [(precision, io) for precision in wanted for io in FORMS]
        found = next((have[one] for one in candidates if one in have), None)
        return found or self.bundle.graph(*candidates[0])  # raises an error that lists the graphs

    def best_engines(self) -> list[EngineEntry]:
        """All engines of the backend that share the best available precision and form.

        Raises:
            BundleError: there is none, or all were built from another graph.
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
        """Raise an error if the GPU is missing.

        Raises:
            BackendError: there is no GPU of this index.
        """
        if find_gpu(self.device) is None:
            raise BackendError(no_gpu(self.device))

    def _precisions(self, best_first: tuple[str, ...]) -> tuple[str, ...]:
        return best_first if self.precision == "auto" else (self.precision,)
