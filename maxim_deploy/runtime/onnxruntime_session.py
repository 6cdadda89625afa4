"""Open an ONNX Runtime session on the GPU, or raise an error with the reason.

ONNX Runtime silently falls back to the CPU in three cases. Its wheel has no CUDA. Or CUDA's
libraries cannot be loaded, and the session has no CUDA provider. Or the provider has no kernel for
a node, and this node runs on the CPU. For the third case the session records the placement of nodes
(`session.record_ep_graph_assignment_info`, ONNX Runtime 1.24). `session.disable_cpu_ep_fallback`
does not help: it refuses every graph that computes sizes, which belongs on the CPU.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.machine.onnxruntime import FATAL_ONLY
from maxim_deploy.machine.processors import threads_to_ask_for
from maxim_deploy.runtime.turns import Turn

if TYPE_CHECKING:
    from maxim_deploy.runtime.cuda import DeviceArray

CUDA = "CUDAExecutionProvider"

_NO_MEMORY = ("Failed to allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc")

# fmt: off
SIZE_OPERATORS = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div",
    "Equal", "Expand", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less",
    "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Range", "ReduceMax",
    "ReduceMin", "ReduceProd", "Reshape", "ScatterND", "Shape", "Size", "Slice", "Split",
    "Squeeze", "Sub", "Unsqueeze", "Where",
})
# fmt: on
"""Operators that compute sizes. Only these may run on the CPU."""


def _check_build(ort: Any) -> None:
    """Raise an error for a wheel without CUDA.

    Otherwise only a session shows whether CUDA works.
    """
    if CUDA not in ort.get_available_providers():
        raise BackendError(
            f"onnxruntime {ort.__version__} is built for CPUs. The packages of the extras `cpu` "
            "and `gpu` share a module name, so uninstall the CPU's first; run: pip uninstall -y "
            "onnxruntime && pip install 'maxim-deploy[gpu]'"
        )


def cuda_session(ort: Any, graph: Path, device: int, threads: int | None) -> Any:
    """An `onnxruntime.InferenceSession` that runs a whole network on a GPU.

    Args:
        ort: the module.
        graph: the ONNX file, with its weights beside it.
        device: index of the GPU.
        threads: CPU threads within one operator; None for one per core.

    Raises:
        BackendError: the network, or a part of it, cannot run on the GPU.
    """
    _check_build(ort)
    if hasattr(ort, "preload_dlls"):
        # CUDA and cuDNN from PyPI are not on the loader's path.
        ort.preload_dlls()
    options = ort.SessionOptions()
    # As on the CPU: the planner chains reused buffers, which then live to the end of a run.
    options.enable_mem_reuse = options.enable_mem_pattern = False
    options.intra_op_num_threads = threads_to_ask_for(threads)
    options.log_severity_level = FATAL_ONLY
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    provider = {
        "device_id": device,
        # With powers of two, a run would take up to twice its planned memory.
        "arena_extend_strategy": "kSameAsRequested",
        # The default measures kernels for every new shape while the caller waits.
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": True,
    }
    providers = [(CUDA, provider), "CPUExecutionProvider"]
    try:
        # Without `enable_fallback` it would print a message and continue on the CPU.
        session = ort.InferenceSession(str(graph), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        raise BackendError(f"ONNX Runtime cannot load {graph.name!r}: {error}") from error
    session.disable_fallback()
    if session.get_providers()[0] != CUDA:
        raise BackendError(
            f"onnxruntime {ort.__version__} cannot use CUDA on GPU {device} and fell back to the "
            "CPU: there is no driver or no such GPU, or CUDA and cuDNN are missing; for those run: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    _check_placement(session)
    return session


def _check_placement(session: Any) -> None:
    """Raise an error if a session runs more than the arithmetic of sizes on the CPU."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise BackendError(
            "this onnxruntime cannot report nodes on the CPU; 1.24 and newer can; run: pip "
            "install --upgrade 'maxim-deploy[gpu]'"
        )
    parts = session.get_provider_graph_assignment_info()
    nodes = [(part.ep_name, node) for part in parts for node in part.get_nodes()]
    if not any(provider == CUDA for provider, _ in nodes):
        raise BackendError("ONNX Runtime puts no node of the graph on the GPU")
    on_cpu = [node for provider, node in nodes if provider != CUDA]
    stray = [node for node in on_cpu if node.op_type not in SIZE_OPERATORS]
    if stray:
        counts = Counter(node.op_type for node in stray)
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
        raise BackendError(
            f"ONNX Runtime would run {listed} on the CPU, {stray[0].name!r} first: it has no CUDA "
            "kernel for them in this precision; take another precision or backend"
        )


_TYPES = {"tensor": "float", "image": "uint8"}
"""Types of input and output of each form, as ONNX Runtime names them."""


def check_form(session: Any, graph: Path, io: str) -> None:
    """Raise an error for a graph of another form than the manifest states.

    Raises:
        BackendError: an input or output has another name, type or place for the channels.
    """
    for ends, name in ((session.get_inputs(), "image"), (session.get_outputs(), "restored")):
        found = [(end.name, end.type, _channels(end.shape, io)) for end in ends]
        if found != [(name, f"tensor({_TYPES[io]})", 3)]:
            listed = ", ".join(f"{end.name!r} {end.type} {end.shape}" for end in ends)
            raise BackendError(
                f"{graph.name} does not have the {io!r} form: in place of {name!r}, "
                f"tensor({_TYPES[io]}), with 3 channels, it has {listed}; export the bundle again"
            )


def _channels(shape: list[Any], io: str) -> Any:
    """The channels of a form's axes; None if the number of axes is wrong."""
    return shape[3 if io == "image" else 1] if len(shape) == 4 else None


def check_result(restored: Any, image: NDArray[Any] | DeviceArray) -> None:
    """Raise an error unless a result has its image's shape and type.

    Args:
        restored: an `onnxruntime.OrtValue`, or an array.
        image: the input.

    Raises:
        BackendError: it differs. Then the graph was not made by maxim-deploy.
    """
    if hasattr(restored, "data_type"):
        type_name = restored.data_type().removeprefix("tensor(").removesuffix(")")
        found = (list(restored.shape()), _NUMPY_NAMES.get(type_name, type_name))
    else:
        found = (list(restored.shape), restored.dtype.name)
    expected = (list(image.shape), image.dtype.name)
    if found != expected:
        raise BackendError(
            f"the graph returned {found[1]} {found[0]} for an input of {expected[1]} "
            f"{expected[0]}; expected the same type and shape: export the bundle again"
        )


_NUMPY_NAMES = {"float": "float32"}
"""NumPy's names of ONNX Runtime's types, where they differ."""


@contextlib.contextmanager
def stoppable(ort: Any, turn: Turn | None) -> Iterator[Any]:
    """An `onnxruntime.RunOptions` that ends a run when its turn is stopped.

    ONNX Runtime checks it before each operator. S-2 at 1024x1024 ended within 0.26 s.
    """
    options = ort.RunOptions()
    if turn is None:
        yield options
        return
    with turn.stop.calling(functools.partial(setattr, options, "terminate", True)):
        yield options


def run_error(error: Exception, dims: tuple[int, ...]) -> BackendError:
    """Our error for an exception of ONNX Runtime on an input of these dimensions."""
    text = f"ONNX Runtime failed on an input of {'x'.join(map(str, dims))}: {error}"
    # It has no class for running out of memory, and its message depends on device and allocator.
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return OutOfMemoryError(text)
    return BackendError(text)
