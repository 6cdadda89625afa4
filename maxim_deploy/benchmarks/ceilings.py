"""Measures the highest rates of this machine: a matrix product and a copy.

Both run in ONNX Runtime, with the library, thread pool and device of the subjects, on buffers that
are bound beforehand. A product of two square matrices is a network's best case. The copy is a
negation of an array far larger than the caches: one read and one write. Unlike ONNX Runtime's own
copy, all threads share it. The fastest run counts, because the rate is a ceiling.

CUDA: "What ran where" in README.md, step `bound`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from maxim_deploy._optional import require
from maxim_deploy.benchmarks.timing import Measure, stopwatch
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.machine.processors import threads_to_ask_for
from maxim_deploy.spec.precision import CPU_PRECISIONS, FULL, PRECISIONS

SIDES = {"cpu": 1024, "cuda": 8192}
"""Side of the matrices. On two cores sides from 512 to 2048 are within 5 % of each other; a GPU
needs larger matrices to fill it."""

COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}
"""Bytes of the copied array, read once and written once. Server CPUs have caches of up to 2**28
bytes, and GPUs of up to 2**27."""

RUNS = 10

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Ceilings:
    """The highest measured rates.

    Attributes:
        gflops: 10**9 operations per second of a matrix product, two per multiply-add.
        gbps: 10**9 bytes per second of a copy, read and written together.
        library: library that ran both, with its version.
        device: "cpu" or "cuda".
        threads: CPU threads; None for one per core.
        precision: precision of the product.
    """

    gflops: float
    gbps: float
    library: str
    device: str
    threads: int | None
    precision: str


def ceilings(
    threads: int | None = None,
    *,
    device: str = "cpu",
    precision: str = FULL,
    side: int | None = None,
    copy_bytes: int | None = None,
) -> Ceilings:
    """Measure both rates. Takes about a second and, on a CPU, 0.6 GB of memory.

    Args:
        threads: CPU threads, as many as the subject has; None for one per core.
        device: "cpu" or "cuda", which is GPU 0.
        precision: precision of the product, as in the subject's arithmetic; NumPy must have it. A
            CPU computes every graph in float32, so there it is full precision.
        side: side of the matrices; None for the device's value in `SIDES`.
        copy_bytes: bytes of the copied array; None for the device's value in `COPY_BYTES`.

    Raises:
        UsageError: the device or precision is unknown.
        MissingDependencyError: ONNX Runtime is not installed.
        BackendError: ONNX Runtime cannot use the device.
    """
    if device not in _PROVIDERS or precision not in CPU_PRECISIONS:
        raise UsageError(
            f"ceilings of {device!r} in {precision!r} | expected {', '.join(_PROVIDERS)} in "
            f"{', '.join(CPU_PRECISIONS)}"
        )
    ort = require("onnxruntime", "gpu" if device == "cuda" else "cpu")
    side, count = side or SIDES[device], (copy_bytes or COPY_BYTES[device]) // 4

    def fastest(operator: str, inputs: int, shape: list[int], element: int) -> float:
        measure = _measure(ort, operator, inputs, shape, element, device, threads)
        # The first run warms up and is never the fastest.
        return min(measure() for _ in range(RUNS + 1))

    product = fastest("MatMul", 2, [side, side], PRECISIONS[precision].onnx)
    copy = fastest("Neg", 1, [count], TensorProto.FLOAT)
    library = f"{'onnxruntime-gpu' if device == 'cuda' else 'onnxruntime'} {ort.__version__}"
    gflops, gbps = 2 * side**3 / product / 1e9, 2 * 4 * count / copy / 1e9
    return Ceilings(round(gflops, 1), round(gbps, 2), library, device, threads, precision)


def _measure(
    ort: Any,
    operator: str,
    inputs: int,
    shape: list[int],
    element: int,
    device: str,
    threads: int | None,
) -> Measure:
    """A measure of one operator, with all arrays in the memory of the device."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads_to_ask_for(threads)
    model = _one_node(operator, inputs, shape, element)
    session = ort.InferenceSession(model, options, providers=[_PROVIDERS[device]])
    # ONNX Runtime falls back to the CPU without an error.
    if session.get_providers()[0] != _PROVIDERS[device]:
        raise BackendError(f"this onnxruntime {ort.__version__} cannot use {device!r} here")
    dtype = helper.tensor_dtype_to_np_dtype(element)
    random = np.random.default_rng(0)
    # Arrays are bound beforehand, so that no run allocates its result or copies its inputs.
    binding = session.io_binding()
    for number in range(inputs):
        array = random.random(shape, np.float32).astype(dtype, copy=False)
        value = ort.OrtValue.ortvalue_from_numpy(array, device, 0)
        binding.bind_ortvalue_input(f"input_{number}", value)
    result = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
    binding.bind_ortvalue_output("result", result)
    return stopwatch(_running(session, binding))


def _running(session: Any, binding: Any) -> Callable[[], None]:
    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def _one_node(operator: str, inputs: int, shape: list[int], element: int) -> bytes:
    """A serialized graph of one operator from `input_0`, ... to `result`."""
    names = [f"input_{number}" for number in range(inputs)]
    sources = [helper.make_tensor_value_info(name, element, shape) for name in names]
    target = helper.make_tensor_value_info("result", element, shape)
    node = helper.make_node(operator, names, ["result"])
    graph = helper.make_graph([node], "ceiling", sources, [target])
    opsets = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
