from __future__ import annotations

import numpy as np
import pytest

from maxim_deploy.benchmarks import ceilings as subject
from maxim_deploy.benchmarks.ceilings import ceilings
from maxim_deploy.errors import BackendError, UsageError


def test_the_rates_are_operations_and_bytes_over_the_fastest_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def fake(_: object, operator: str, inputs: int, shape: list[int], *rest: object) -> object:
        asked.append((operator, inputs, shape, *rest[1:]))
        seconds = iter([9.0, 2.0, 0.5, *[1.0] * 20])
        return lambda: next(seconds)

    monkeypatch.setattr(subject, "_measure", fake)
    found = ceilings(2, side=1000, copy_bytes=4 * 10**9)
    assert asked == [("MatMul", 2, [1000, 1000], "cpu", 2), ("Neg", 1, [10**9], "cpu", 2)]
    assert (found.gflops, found.gbps) == (4.0, 16.0)
    assert (found.device, found.threads, found.precision) == ("cpu", 2, "fp32")
    assert found.library.startswith("onnxruntime 1.")


def test_it_measures_this_machine() -> None:
    found = ceilings(1, side=128, copy_bytes=2**20)
    assert found.gflops > 0
    assert found.gbps > 0


def test_the_single_nodes_compute_what_they_are_said_to() -> None:
    import onnxruntime as ort
    from onnx import TensorProto

    session = ort.InferenceSession(subject._one_node("MatMul", 2, [8, 8], TensorProto.FLOAT))
    a, b = np.random.default_rng(0).random((2, 8, 8), np.float32)
    (found,) = session.run(None, {"input_0": a, "input_1": b})
    assert np.allclose(found, a @ b)


@pytest.mark.parametrize(("device", "precision"), [("tpu", "fp32"), ("cpu", "int8")])
def test_an_unknown_device_or_precision_is_refused(device: str, precision: str) -> None:
    with pytest.raises(UsageError, match="expected cpu, cuda in fp32, fp16"):
        ceilings(1, device=device, precision=precision)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_library_without_cuda_says_so() -> None:
    import onnxruntime as ort

    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(BackendError, match="cannot use 'cuda' here"):
        ceilings(1, device="cuda", side=8, copy_bytes=64)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    if not subject.require("onnxruntime", "gpu").get_available_providers()[0].startswith("CUDA"):
        pytest.skip("this ONNX Runtime has no CUDA")
    assert ceilings(device="cuda", precision="fp16").gflops > 1000
