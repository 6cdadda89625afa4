"""What we use of TensorRT's bindings, compared with a module of theirs."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from runtime import fake_tensorrt

import maxim_deploy
from maxim_deploy.benchmarks.profile.tensorrt_layers import layer_profiler
from maxim_deploy.engines.build_monitor import Stop, progress_monitor
from maxim_deploy.machine.tensorrt import (
    collecting_logger,
    error_recorder,
    load_library,
    quiet_logger,
)

FAKES = {
    "IExecutionContext": fake_tensorrt.FakeContext,
    "IRuntimeConfig": fake_tensorrt.FakeConfig,
    "IRuntimeCache": fake_tensorrt.FakeCache,
    "ICudaEngine": fake_tensorrt.FakeEngine,
}
"""By the classes that they stand for."""

MEMBERS = {
    "Builder": "create_network create_builder_config create_optimization_profile "
    "build_serialized_network",
    "IBuilderConfig": "set_flag clear_flag set_memory_pool_limit add_optimization_profile "
    "create_timing_cache set_timing_cache",
    "ITimingCache": "combine serialize",
    "INetworkDefinition": "get_input num_layers",
    "OnnxParser": "parse_from_file num_errors get_error",
    "OnnxParserRefitter": "refit_from_file num_errors get_error",
    "Refitter": "refit_cuda_engine get_missing_weights",
    "Runtime": "deserialize_cuda_engine",
    "ICudaEngine": "num_io_tensors",
    "IRuntimeConfig": "set_execution_context_allocation_strategy",
    "TensorIOMode": "INPUT OUTPUT",
    "ExecutionContextAllocationStrategy": "USER_MANAGED",
    "ProfilingVerbosity": "NONE LAYER_NAMES_ONLY DETAILED",
    "MemoryPoolType": "WORKSPACE",
}
"""What no fake has, in both libraries."""

SETTABLE = {
    "IBuilderConfig": "builder_optimization_level max_aux_streams profiling_verbosity "
    "hardware_compatibility_level progress_monitor",
    "Runtime": "engine_host_code_allowed error_recorder",
    "ICudaEngine": "error_recorder",
    "IExecutionContext": "error_recorder profiler enqueue_emits_profile",
}
"""Properties that we set, in both libraries."""

PORTABLE_MEMBERS = {
    "Runtime": "get_engine_validity",
    "CudaGraphStrategy": "DISABLED WHOLE_GRAPH_CAPTURE",
    "DynamicShapesKernelSpecializationStrategy": "LAZY EAGER NONE",
    "EngineValidity": "VALID SUBOPTIMAL INVALID",
    "ComputeCapability": "CURRENT",
    "IBuilderConfig": "set_compute_capability",
}
"""What TensorRT for RTX alone has."""

PORTABLE_SETTABLE = {
    "IRuntimeConfig": "cuda_graph_strategy dynamic_shapes_kernel_specialization_strategy",
    "IBuilderConfig": "num_compute_capabilities",
}

NOT_THEIRS = {"create_execution_context", "hold_lock", "report", "size_of"}
"""Methods of fakes that the bindings do not have, or, as the first one, have twice."""

PORTABLE_METHODS = {"create_runtime_cache", "set_runtime_cache", "serialize", "deserialize"}
PORTABLE_KINDS = {
    "EngineInvalidityDiagnostics",
    "IRuntimeCache",
    *PORTABLE_MEMBERS,
} - MEMBERS.keys()


def missing(trt: ModuleType, portable: bool) -> list[str]:
    """What we use and a module has not."""
    listed = [*MEMBERS.items(), *(PORTABLE_MEMBERS.items() if portable else ())]
    absent = [f"{kind}.{name}" for kind, names in listed for name in names.split()
              if not hasattr(getattr(trt, kind, None), name)]  # fmt: skip
    return absent + [name for name in named_in_source(portable) if not hasattr(trt, name)]


def not_settable(trt: ModuleType, portable: bool) -> list[str]:
    """Properties that we set and a module only lets read."""
    listed = [*SETTABLE.items(), *(PORTABLE_SETTABLE.items() if portable else ())]
    found = {f"{kind}.{name}": vars(getattr(trt, kind, object)).get(name)
             for kind, names in listed for name in names.split()}  # fmt: skip
    return [name for name, of in found.items() if getattr(of, "fset", None) is None]


def named_in_source(portable: bool) -> set[str]:
    """Classes and enums that the package writes as `trt.Name`."""
    sources = Path(maxim_deploy.__file__).parent.rglob("*.py")
    text = "\n".join(path.read_text("utf-8") for path in sources)
    return set(re.findall(r"\btrt\.([A-Z]\w+)", text)) - (set() if portable else PORTABLE_KINDS)


def methods(portable: bool) -> list[tuple[str, str, list[str]]]:
    """(class, method, names of arguments) of the fakes."""
    return [
        (kind, name, list(inspect.signature(method).parameters)[1:])
        for kind, fake in FAKES.items()
        for name, method in inspect.getmembers(fake, inspect.isfunction)
        if not name.startswith("_") and name not in NOT_THEIRS
        if portable or name not in PORTABLE_METHODS
    ]


def wrong_signatures(trt: ModuleType, portable: bool) -> list[str]:
    """Methods of the fakes whose arguments are not those of the bindings."""
    wrong = [
        f"{kind}.{name}{arguments}, in the bindings {found}"
        for kind, name, arguments in methods(portable)
        if (found := arguments_of(trt, kind, name)) != arguments
    ]
    # It has two forms, by the type of the only argument.
    made_with = ("strategy: ", "runtime_config: ") if portable else ("strategy: ",)
    create = getattr(getattr(trt, "ICudaEngine", None), "create_execution_context", None)
    return wrong + [one for one in made_with if one not in (getattr(create, "__doc__", None) or "")]


def arguments_of(trt: ModuleType, kind: str, name: str) -> list[str] | None:
    text = getattr(getattr(getattr(trt, kind, None), name, None), "__doc__", None) or ""
    signature = re.search(r"\(self: [^,)]+(.*?)\) ->", text)
    return re.findall(r", (\w+):", signature[1]) if signature else None


def refused_subclasses(trt: ModuleType) -> Iterator[str]:
    """Our subclasses of the bindings' classes that cannot be made, or lack what they override."""
    made = {
        "ILogger": lambda: collecting_logger(trt),
        "IErrorRecorder": lambda: error_recorder(trt),
        "IProfiler": lambda: layer_profiler(trt),
        "IProgressMonitor": lambda: progress_monitor(trt, print, Stop()),
    }
    for kind, make in made.items():
        ours, theirs = type(make()), getattr(trt, kind)
        needed = {name for name, of in vars(theirs).items() if callable(of) and name[0].islower()}
        unknown = needed - set(vars(ours))
        if not issubclass(ours, theirs) or unknown:
            yield f"{ours.__name__} lacks {unknown}"


def can_log_under_the_lock(trt: ModuleType, folder: Path, logger: object) -> bool:
    """Whether a thread of the library's can log while a call holds the interpreter's lock.

    The stub starts such a thread when a `trt.Runtime` is made, and waits for it.
    """
    with contextlib.suppress(TypeError):  # the stub makes none
        trt.Runtime(logger)
    library = next(folder.glob("lib*infer.so.*"), None) or next(folder.glob("libtensorrt_rtx.so.*"))
    return bool(ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "logged").value)


def findings(library: str, folder: str) -> dict[str, object]:
    """Everything above, of the library that can be imported here; ready for JSON."""
    trt, portable = load_library(library), library == "tensorrt-rtx"
    return {
        "version": trt.__version__,
        "missing": missing(trt, portable),
        "not settable": not_settable(trt, portable),
        "signatures": wrong_signatures(trt, portable),
        "subclasses": list(refused_subclasses(trt)),
        "quiet logger": can_log_under_the_lock(trt, Path(folder), quiet_logger(trt)),
        "python logger": can_log_under_the_lock(trt, Path(folder), collecting_logger(trt)),
    }
