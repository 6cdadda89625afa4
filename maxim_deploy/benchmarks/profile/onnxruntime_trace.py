"""ONNX Runtime's own profile of a graph on the CPU.

ONNX Runtime writes a JSON trace: a list of events with microseconds `ts` and `dur`, "Session" for
each run and "Node" for each node of the executed graph. A node that ONNX Runtime made without a
name has a name in the trace only. So ONNX Runtime also saves the executed graph, whose nodes are in
the order of execution: the k-th event of a run is the k-th node.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.benchmarks.profile.attribution import sources_of
from maxim_deploy.benchmarks.profile.profile import NodeTimes
from maxim_deploy.benchmarks.timing import stopwatch
from maxim_deploy.errors import BackendError
from maxim_deploy.machine.onnxruntime import session_options
from maxim_deploy.spec.kinds import Source

_NODE_SUFFIX = "_kernel_time"
_ERRORS_ONLY = 3
"""Severity of the log. Saving a graph that is optimised for this machine gives a warning."""


class Trace(NamedTuple):
    """Nodes in the order of execution; milliseconds of each run with and without the profiler."""

    nodes: list[NodeTimes]
    wall_ms: list[float]
    plain_ms: list[float]
    library: str


class TracedRun(NamedTuple):
    """One run in a trace: its milliseconds, and (name, operator, milliseconds) of every node."""

    wall_ms: float
    nodes: list[tuple[str, str, float]]


def trace_graph(
    graph: Path,
    image: NDArray[Any],
    *,
    runs: int,
    warmup: int,
    threads: int | None,
) -> Trace:
    """Run a graph with and without ONNX Runtime's profiler.

    Args:
        graph: graph in either form, with its weights beside it.
        image: input in the graph's form.
        runs: runs to keep with and without the profiler.
        warmup: runs to skip before them.
        threads: threads within one operator; None for one per core.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: ONNX Runtime cannot run the graph.
    """
    ort = require("onnxruntime", "cpu")
    try:
        source = _Source(ort, graph, threads)
        plain_ms = _plain(source, image, warmup + runs)[warmup:]
        traced, executed = _traced(source, image, warmup + runs)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        raise BackendError(f"ONNX Runtime cannot profile {graph.name!r}: {error}") from error
    exported = onnx.load(str(graph), load_external_data=False).graph
    kept = traced[warmup:]
    nodes = matched(kept, list(executed.node), sources_of(executed, exported))
    library = f"onnxruntime {ort.__version__}"
    return Trace(nodes, [run.wall_ms for run in kept], plain_ms, library)


def runs_in(events: list[dict[str, Any]]) -> list[TracedRun]:
    """The runs of a trace, in order, without events outside of a run."""
    walls = [event for event in events if event["name"] == "model_run"]
    nodes = [event for event in events if event["name"].endswith(_NODE_SUFFIX)]
    runs = []
    # Threads write events as they end, so the order of the file is arbitrary.
    for wall in sorted(walls, key=lambda event: event["ts"]):
        start, end = wall["ts"], wall["ts"] + wall["dur"]
        inside = sorted(
            (event for event in nodes if start <= event["ts"] < end), key=lambda event: event["ts"]
        )
        runs.append(TracedRun(wall["dur"] / 1e3, [_node(event) for event in inside]))
    return runs


def matched(
    runs: list[TracedRun], executed: list[onnx.NodeProto], sources: list[Source]
) -> list[NodeTimes]:
    """The times of every node over all runs, with its source.

    Raises:
        BackendError: the events of a run do not match the nodes of the saved graph one by one.
    """
    for run in runs:
        same = len(run.nodes) == len(executed) and all(
            node.op_type == operator and node.name in ("", name)
            for node, (name, operator, _) in zip(executed, run.nodes, strict=True)
        )
        if not same:
            raise BackendError(
                f"ONNX Runtime's trace has {len(run.nodes)} nodes in a run and its saved graph "
                f"{len(executed)}, or their names or order differ | this version of ONNX Runtime "
                "cannot be profiled by block"
            )
    return [
        NodeTimes(source.place, source.kind, [run.nodes[number][2] for run in runs])
        for number, source in enumerate(sources)
    ]


class _Source(NamedTuple):
    """The graph and options of sessions."""

    ort: Any
    graph: Path
    threads: int | None

    def options(self) -> Any:
        return session_options(self.ort, self.threads)

    def session(self, options: Any) -> Any:
        providers = ["CPUExecutionProvider"]
        return self.ort.InferenceSession(str(self.graph), options, providers=providers)


def _plain(source: _Source, image: NDArray[Any], count: int) -> list[float]:
    session = source.session(source.options())
    measure = stopwatch(lambda: session.run(["restored"], {"image": image}))
    return [1e3 * measure() for _ in range(count)]


def _traced(
    source: _Source, image: NDArray[Any], count: int
) -> tuple[list[TracedRun], onnx.GraphProto]:
    """The runs, and the graph as it was executed."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "executed.onnx")
        options = source.options()
        options.optimized_model_filepath = str(saved)
        options.log_severity_level = _ERRORS_ONLY
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "trace"))
        session = source.session(options)
        # The trace includes the warm-up. Events do not name their run, so all events are read.
        for _ in range(count):
            session.run(["restored"], {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        return runs_in(events), onnx.load(str(saved), load_external_data=False).graph


def _node(event: dict[str, Any]) -> tuple[str, str, float]:
    name = event["name"].removesuffix(_NODE_SUFFIX)
    return name, event["args"]["op_name"], event["dur"] / 1e3
