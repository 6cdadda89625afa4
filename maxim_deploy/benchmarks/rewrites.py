"""Savings of the exact rewrites: an engine's traffic, and time on a CPU; `--rewrites`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir

from maxim_deploy._progress import Progress
from maxim_deploy.benchmarks.timing import Ratio, interleaved, ratio, stopwatch
from maxim_deploy.engines.building import build_engine
from maxim_deploy.engines.fixed_builds import traffic_from_log
from maxim_deploy.errors import EngineError
from maxim_deploy.export import FORMS, DeploymentMaxim, Rewrites, onnx_from_module
from maxim_deploy.export.deployment import REWRITES
from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.session import open_network
from maxim_deploy.machine.tensorrt import load_library, parse_graph
from maxim_deploy.model import Maxim
from maxim_deploy.spec.engine_settings import EngineSettings
from maxim_deploy.spec.precision import GPU_PRECISIONS
from maxim_deploy.spec.profiles import Profile, Shape
from maxim_deploy.spec.traffic import Traffic

LIBRARY = "tensorrt-rtx"
"""The library that builds engines without a GPU."""

SIZE = (1088, 1920)
CPU_SIZE, ROUNDS, WARMUP = (256, 256), 6, 1


@dataclass(frozen=True)
class RewriteCost:
    """A choice of rewrites.

    Attributes:
        name: name of a form, perhaps without one of its rewrites.
        traffic: traffic of its engine in low precision, at one size.
        on_cpu: time of its float32 graph in ONNX Runtime on a CPU, over the time of the CPU's form.
    """

    name: str
    traffic: Traffic
    on_cpu: Ratio


def choices() -> dict[str, Rewrites]:
    """All forms, and the GPU's form without each single rewrite that saves traffic."""
    cpu, gpu = FORMS["cpu"], FORMS["gpu"]
    own = [name for name in REWRITES if getattr(gpu, name) != getattr(cpu, name)]
    without = {
        f"gpu without {name}": replace(gpu, **{name: False}) for name in ("partitioned_norms", *own)
    }
    return {**FORMS, **{name: x for name, x in without.items() if x not in FORMS.values()}}


def cost_of_rewrites(
    network: Maxim, size: tuple[int, int], progress: Progress
) -> Iterator[RewriteCost]:
    """Measure one choice of rewrites after the other.

    Args:
        network: network in literal form.
        size: height and width of the engine's only shape, multiples of 64.
        progress: called with each step in words.

    Raises:
        MissingDependencyError: TensorRT for RTX or ONNX Runtime is not installed.
        EngineError: an engine cannot be built, or lists no layers.
    """
    trt, plain = load_library(LIBRARY), None
    for name, rewrites in choices().items():
        progress(f"tracing {name}")
        core = onnx_from_module(DeploymentMaxim(network, rewrites))
        run = open_network(core)
        plain = plain or run
        progress(f"building {name} for {size[0]}x{size[1]}")
        traffic = _traffic(trt, core, Shape(1, *size))
        yield RewriteCost(name, traffic, _ratio(run, plain))


def _traffic(trt: ModuleType, core: ir.Model, shape: Shape) -> Traffic:
    """Traffic of the engine of a float32 graph, converted to the best precision for a GPU."""
    precision = GPU_PRECISIONS[0]
    low = low_precision(core, default_table(precision, core.graph))
    profile = Profile("fixed", shape, shape, shape)
    settings = EngineSettings(LIBRARY, (profile,), precision=precision, io="tensor")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "low.onnx")
        save_graph(low, graph, "low.weights", {})
        parsed = parse_graph(trt, graph)
        if parsed.errors:
            raise EngineError("; ".join(parsed.errors))
        build_engine(parsed, settings)
    return traffic_from_log(parsed.logger.messages, shape)


def _ratio(run: Any, plain: Any) -> Ratio:
    image = np.random.default_rng(0).random((1, 3, *CPU_SIZE), np.float32)
    measures = {"this": stopwatch(lambda: run(image)), "plain": stopwatch(lambda: plain(image))}
    # The first runs pack weights and grow the arena.
    for measure in [*measures.values()] * WARMUP:
        measure()
    seconds = interleaved(measures, rounds=ROUNDS, longest_s=600)
    return ratio(seconds["this"], seconds["plain"])


HEADS = (
    "| rewrites | layers | bytes per pixel | float32 | activations | time on a CPU |\n"
    "|---|---|---|---|---|---|"
)


def row_of(cost: RewriteCost) -> str:
    """A row of a Markdown table."""
    traffic = cost.traffic
    return (
        f"| {cost.name} | {traffic.layers} | {traffic.bytes_per_pixel or 0:.0f} | "
        f"{100 * (traffic.float32_share or 0):.1f} % | "
        f"{(traffic.activation_bytes or 0) / 1e9:.3f} GB | {cost.on_cpu} |"
    )
