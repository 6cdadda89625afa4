"""Steps about overlapping work: lanes, streams of torch, and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.accept.engine import engine_backend, median_ms
from maxim_deploy.accept.step import (
    SMALL,
    CannotRunError,
    FaultError,
    Numbers,
    Setting,
    in_form,
    largest_difference,
    picture,
    same_bits,
    settled,
)
from maxim_deploy.runtime import Restorer
from maxim_deploy.runtime.cuda import Graph, Stream, open_cuda
from maxim_deploy.spec.engine_libraries import is_portable

PICTURES = 4
ROUNDS = 3
GRAPH_RUNS = 5
"""Runs of a shape. The first run cannot be captured, and a capture may take one more run."""

BUSY_SIDE, BUSY_PRODUCTS = 8192, 20
"""Side and number of matrix products: 2.2e13 operations in float32, far longer than a call."""


def run_two_lanes(setting: Setting) -> Numbers:
    """Restore pictures from two concurrent callers; each must get the bits of a single caller."""
    images = [picture(SMALL, number) for number in range(PICTURES)]
    with setting.open() as restorer:
        restorer.warmup([SMALL])
        alone = settled(lambda: [restorer(image) for image in images])
        futures = [restorer.submit(image) for image in images * ROUNDS]
        together = [future.result() for future in futures]
    differing = [
        k for k, found in enumerate(together) if not same_bits([found], [alone[k % PICTURES]])
    ]
    numbers = {"runs": len(together), "differing": len(differing)}
    if differing:
        most = max(largest_difference(together[k], alone[k % PICTURES]) for k in differing)
        raise FaultError(
            f"runs side by side | {len(differing)} of {len(together)} differ from the same run "
            f"alone, by up to {most:g} | expected the same bits",
            **numbers,
        )
    return numbers


def read_pending_work(setting: Setting) -> Numbers:
    """Pass a tensor that torch is still writing in a separate stream."""
    torch = _torch_with_cuda()
    return _restore_pending(setting.open(), torch, torch.cuda.Stream())


def read_default_stream(setting: Setting) -> Numbers:
    """Pass a tensor that torch is still writing in the default stream."""
    torch = _torch_with_cuda()
    return _restore_pending(setting.open(), torch, torch.cuda.default_stream())


def run_in_external_stream(setting: Setting) -> Numbers:
    """Run the engine in a stream of torch, and read the result in that stream."""
    torch = _torch_with_cuda()
    stream = torch.cuda.Stream()
    return _restore_pending(setting.open(stream=stream.cuda_stream), torch, stream)


def _torch_with_cuda() -> Any:
    torch = require("torch", "export")
    if not torch.cuda.is_available():
        raise CannotRunError("PyTorch cannot use CUDA here")
    return torch


def _restore_pending(opened: Restorer, torch: Any, stream: Any) -> Numbers:
    with opened as restorer, torch.cuda.stream(stream):
        ready = torch.from_numpy(in_form(picture(SMALL), restorer.info.io)).to("cuda")
        torch.cuda.synchronize()
        (expected,) = settled(lambda: [_restored(torch, restorer, ready)])
        image = torch.zeros_like(ready)
        for _ in range(ROUNDS):
            image.zero_()
            _keep_busy(torch)
            image.copy_(ready)
            found = _restored(torch, restorer, image)
            if not np.array_equal(found, expected):
                raise FaultError(
                    "tensor that torch was still writing | its result is "
                    f"{largest_difference(found, expected):g} from that of the written one | "
                    "expected the same bits, because a run must wait for the stream of its input"
                )
    return {"rounds": ROUNDS}


def _restored(torch: Any, restorer: Restorer, tensor: Any) -> NDArray[Any]:
    """The result in host memory, copied in torch's current stream."""
    restored: NDArray[Any] = torch.as_tensor(restorer(tensor), device="cuda").cpu().numpy()
    return restored


def _keep_busy(torch: Any) -> None:
    """Enqueue work in torch's current stream without waiting for it."""
    square = torch.ones((BUSY_SIDE, BUSY_SIDE), device="cuda")
    for _ in range(BUSY_PRODUCTS):
        torch.matmul(square, square)


class CountingCuda:
    """A `maxim_deploy.runtime.cuda.Cuda` that counts the graphs it captures and launches."""

    def __init__(self, cuda: Any) -> None:
        self._cuda, self.captures, self.launches = cuda, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cuda, name)

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """As `Cuda.capture`, and count it."""
        graph: Graph = self._cuda.capture(stream, work)
        self.captures += 1
        return graph

    def launch(self, graph: Graph, stream: Stream) -> None:
        """As `Cuda.launch`, and count it."""
        self._cuda.launch(graph, stream)
        self.launches += 1


def launch_graph(setting: Setting) -> Numbers:
    """Run an engine with and without CUDA graphs: results must be equal and a graph launched.

    TensorRT for RTX captures graphs by itself without reporting them, so only the times show it.
    """
    cuda = CountingCuda(open_cuda())
    expected, off_ms = _run_with_graphs(setting, cuda, "off")
    restored, on_ms = _run_with_graphs(setting, cuda, "whole-graph")
    numbers = {"off_ms": off_ms, "on_ms": on_ms}
    numbers |= {"captures": cuda.captures, "launches": cuda.launches}
    if not is_portable(setting.backend) and not (cuda.captures and cuda.launches):
        raise FaultError(
            f"CUDA graphs | {cuda.captures} captured and {cuda.launches} launched in "
            f"{GRAPH_RUNS} runs of one shape | expected one capture, launched in all later runs",
            **numbers,
        )
    if not same_bits([restored], [expected]):
        raise FaultError("result of a CUDA graph | differs from that of plain runs", **numbers)
    return numbers


def _run_with_graphs(setting: Setting, cuda: Any, graphs: str) -> tuple[NDArray[Any], float]:
    """Return (the result of an engine with this setting of CUDA graphs, milliseconds of a run)."""
    with engine_backend(setting, cuda, cuda_graphs=graphs) as (backend, image):
        for _ in range(GRAPH_RUNS):
            backend.run(image)
        (restored,) = settled(lambda: [backend.run(image)])
        return restored, median_ms(lambda: backend.run(image))
