"""Compares the cost of a subject with the measured limits of this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maxim_deploy.benchmarks.ceilings import Ceilings, ceilings
from maxim_deploy.errors import MaximDeployError
from maxim_deploy.graph.checks import operator_counts
from maxim_deploy.graph.cost.cost import Cost, cost_of
from maxim_deploy.graph.cost.live_set import live_set
from maxim_deploy.spec.gpus import bound_ms, known_gpu
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.traffic import Traffic

SIDE = 256
"""Side of the picture whose cost is counted. A MAXIM costs the same per pixel at any size, except
for its weights, which are moved once: the demo model moves 18038 bytes per pixel at this size and
17980 at 512."""


@dataclass
class Roofline:
    """Computes the costs of graphs, and measures each ceiling once.

    Args:
        threads: CPU threads of the subjects.
        progress: called with each step in words, and with the reason of a failed one.
    """

    threads: int | None
    progress: Callable[[str], None]

    def __post_init__(self) -> None:
        self._ceilings = cache(self._measured)
        self._facts = cache(_graph_facts)
        self._cost = cache(_cost)

    def cost(
        self, graph: Path, io: str, *, pixels: int, device: str, precision: str, p50_ms: float
    ) -> dict[str, Any] | None:
        """`cost` of a record; None if a ceiling or the graph's cost is not available.

        Args:
            graph: graph that computes the same as the subject.
            io: form of the graph.
            pixels: padded pixels of all pictures, as the network sees them.
            device: device of the subject.
            precision: precision of its arithmetic.
            p50_ms: median time of its network in milliseconds.
        """
        ceiling = self._ceilings(*_arithmetic(device, precision))
        if ceiling is None:
            return None
        cost = self._counted(graph, io)
        if cost is None:
            return None
        rates = ceiling.gflops * 1e9, ceiling.gbps * 1e9
        scale = pixels / cost.pixels
        bounds = {
            "bound_ms": 1e3 * scale * cost.bound_s(*rates),
            "fused_bound_ms": 1e3 * scale * cost.bound_s(*rates, fused=True),
        }
        return {
            "operations_per_pixel": cost.operations / cost.pixels,
            "bytes_per_pixel": cost.bytes / cost.pixels,
            "fused_bytes_per_pixel": cost.fused_bytes / cost.pixels,
            "gflops": ceiling.gflops,
            "gbps": ceiling.gbps,
            **bounds,
            "share": bounds["bound_ms"] / p50_ms,
            "fused_share": bounds["fused_bound_ms"] / p50_ms,
        }

    def bound(
        self,
        traffic: Traffic,
        graph: Path,
        io: str,
        shape: Shape,
        *,
        device: str,
        precision: str,
        took_ms: float,
    ) -> dict[str, Any] | None:
        """`bound` of a record; None if the rates of the GPU are unknown.

        Args:
            traffic: traffic of the engine, with its bytes per pixel.
            graph: graph that the engine was built from.
            io: form of the graph.
            shape: shape of the input.
            device: device, such as "cuda:0 NVIDIA L4".
            precision: precision of the arithmetic.
            took_ms: time of a run in milliseconds.
        """
        assert traffic.bytes_per_pixel is not None
        rates = self._rates(device, precision)
        if rates is None:
            return None
        # If operations cannot be counted, the bytes alone still give a lower bound.
        cost = self._counted(graph, io)
        operations = cost.operations / cost.pixels * shape.padded_pixels if cost else 0.0
        moved = traffic.bytes_per_pixel * shape.pixels
        ms = bound_ms(moved, rates["gbps"], operations, rates["gflops"])
        return {
            **rates,
            "bytes_per_pixel": traffic.bytes_per_pixel,
            "operations_per_pixel": operations / shape.pixels if cost else None,
            "bound_ms": ms,
            "took_ms": took_ms,
            "share": ms / took_ms,
        }

    def _rates(self, device: str, precision: str) -> dict[str, Any] | None:
        """Highest rates of this GPU: measured here, or else from its data sheet."""
        index, _, name = device.partition(" ")
        if measured := self._ceilings(*_arithmetic(index.split(":")[0], precision)):
            source = f"measured here with {measured.library}"
            return {"gpu": name, "source": source, "gbps": measured.gbps, "gflops": measured.gflops}
        if known := known_gpu(name):
            gflops = known.gflops(precision)
            return {"gpu": name, "source": known.source, "gbps": known.gbps, "gflops": gflops}
        self.progress(f"no bound of {name}: its rates are not known | install onnxruntime-gpu")
        return None

    def graph_facts(self, graph: Path, io: str) -> dict[str, Any] | None:
        """`graph` of a record; None if the graph cannot be analysed, such as one in bfloat16."""
        try:
            return self._facts(graph, io)
        except MaximDeployError as error:
            self.progress(f"no facts of {graph.name} | {error}")
            return None

    def _counted(self, graph: Path, io: str) -> Cost | None:
        try:
            return self._cost(graph, io)
        except MaximDeployError as error:
            self.progress(f"no cost of {graph.name} | {error}")
            return None

    def _measured(self, device: str, precision: str) -> Ceilings | None:
        self.progress(f"measuring the ceilings of this machine ({device}, {precision})")
        try:
            return ceilings(self.threads, device=device, precision=precision)
        except MaximDeployError as error:
            self.progress(f"no ceilings of this machine | {error}")
            return None


def _arithmetic(device: str, precision: str) -> tuple[str, str]:
    """Device and precision of the matrix product to compare with."""
    if device == "cpu":
        return "cpu", FULL  # a CPU computes graphs of any precision in float32
    # Tensor cores multiply all types of one width at one rate.
    width = PRECISIONS[precision].bytes
    return "cuda", next(name for name, row in PRECISIONS.items() if row.bytes == width)


def _cost(graph: Path, io: str) -> Cost:
    return cost_of(graph, Shape(1, SIDE, SIDE).dims(io))  # type: ignore[arg-type]


def _graph_facts(graph: Path, io: str) -> dict[str, Any]:
    """`graph` of a record."""
    counts = operator_counts(graph)
    living = live_set(graph, Shape(1, SIDE, SIDE).dims(io))  # type: ignore[arg-type]
    return {
        "nodes": counts.total(),
        "transposes": counts["Transpose"],
        "live_bytes_per_pixel": round(living.bytes_per_pixel, 1),
        "live_at": living.node,
    }
