"""The table of steps: their backends and requirements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maxim_deploy.runtime.registry import BACKENDS, BackendSpec
from maxim_deploy.spec.engine_libraries import is_portable

_HERE = "maxim_deploy.accept"


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: name of the step for `--only`.
        function: "module:function" below `maxim_deploy.accept`, from a `Setting` to `Numbers`. The
            process that runs the step imports it.
        does: the purpose in a few words.
        takes: whether the step applies to a backend.
        limit_s: seconds after which the step has failed.
        gpus: number of GPUs that it needs on a backend that runs on a GPU.
        uses_engine: whether it runs or inspects the engine of the step `build`.
        is_short: whether it also applies to a large network. The other steps build several engines,
            or judge pictures, which need trained weights.
    """

    name: str
    function: str
    does: str
    takes: Callable[[BackendSpec], bool]
    limit_s: float = 180.0
    gpus: int = 1
    uses_engine: bool = True
    is_short: bool = True

    @property
    def path(self) -> str:
        """The function, for `child`."""
        return f"{_HERE}.{self.function}"


def _every(_: BackendSpec) -> bool:
    return True


def _on_gpu(spec: BackendSpec) -> bool:
    return spec.is_on_gpu


def _has_engines(spec: BackendSpec) -> bool:
    return spec.runs == "engines"


def _is_rtx(spec: BackendSpec) -> bool:
    return is_portable(spec.name)


def _is_full_tensorrt(spec: BackendSpec) -> bool:
    return _has_engines(spec) and not _is_rtx(spec)


def _is_planned(spec: BackendSpec) -> bool:
    """Whether the backend plans its memory; the PyTorch reference only estimates it."""
    return spec.runs != "weights"


def _is_profiled(spec: BackendSpec) -> bool:
    return spec.profiler is not None


# fmt: off
STEPS = (
    Step("parse", "building:parse_graphs", "parse every graph of the bundle", _has_engines,
         gpus=0, uses_engine=False),
    Step("build", "building:build_engine_of_bundle", "build an engine", _has_engines,
         limit_s=400, gpus=0, uses_engine=False),
    Step("layers", "building:list_layers", "list the layers of the engine", _has_engines, gpus=0),
    Step("load", "loading:load_and_run", "load, and restore one picture", _every),
    Step("shapes", "loading:run_shapes", "odd, thin and tiny sizes, each pixel type", _every),
    Step("agreement", "loading:agree_with_float32", "results against the float32 graph", _every),
    Step("lanes", "streams:run_two_lanes", "two callers at a time, bit for bit", _every),
    Step("pending-work", "streams:read_pending_work", "a tensor that torch still writes", _on_gpu),
    Step("default-stream", "streams:read_default_stream", "the same in torch's default stream",
         _on_gpu),
    Step("external-stream", "streams:run_in_external_stream", "work in a stream of torch's",
         _has_engines),
    Step("graph", "streams:launch_graph", "capture and launch a CUDA graph", _has_engines),
    Step("more-shapes", "memory:run_more_shapes_than_kept", "more shapes than are kept", _every),
    Step("little-memory", "memory:restore_in_little_memory", "max_memory below a whole picture",
         _every),
    Step("out-of-memory", "memory:run_out_of_memory", "no device memory left, then some again",
         _on_gpu),
    Step("peak-memory", "memory:compare_peak_with_plan", "peak memory against the plan",
         _is_planned),
    Step("tiles", "loading:agree_in_tiles", "tiles of 512 against the whole picture", _every,
         is_short=False),
    Step("close", "lifetime:close_at_once", "close with jobs under way", _every),
    Step("kill", "lifetime:kill_and_start_again", "kill the process and start again", _every),
    Step("kernel-cache", "lifetime:keep_compiled_kernels", "compiled kernels are kept", _is_rtx),
    Step("second-gpu", "loading:run_on_second_gpu", "two GPUs at a time", _on_gpu, gpus=2),
    Step("refit", "building:refit_weights", "refit an engine without weights", _has_engines,
         limit_s=300, uses_engine=False, is_short=False),
    Step("timing-cache", "building:keep_timings", "build twice with a timing cache",
         _is_full_tensorrt, limit_s=300, uses_engine=False, is_short=False),
    Step("compatibility", "building:build_for_others", "engines for other versions and GPUs",
         _has_engines, limit_s=300, is_short=False),
    Step("profile", "speed:profile_by_block", "where the time goes, by block", _is_profiled),
    Step("bound", "speed:compare_with_bound", "time against the bound", _is_planned),
    Step("eager", "speed:compare_lazy_with_eager", "lazy against eager kernels", _is_rtx),
)
# fmt: on
"""All steps, in the order in which they run."""


_NOTES = {0: " (also without a GPU)", 1: "", 2: " (two GPUs)"}


def listed() -> str:
    """Return the table as text: name, summary and backends of each step."""
    lines = []
    for step in STEPS:
        names = ", ".join(spec.name for spec in BACKENDS if step.takes(spec))
        lines.append(f"{step.name:<16}{step.does:<46}{names}{_NOTES[step.gpus]}")
    return "\n".join(lines)
