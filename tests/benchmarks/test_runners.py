from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.fakes import FakeEvents
from engines.bundles import entry_of, tiny_graph, write_bundle
from graph.small_graphs import node, write
from runtime import fake_tensorrt
from runtime.cuda.fakes import FakeRuntime

from maxim_deploy.benchmarks import torch_runner
from maxim_deploy.benchmarks.runners import runner_of
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.engines.validity import Validity
from maxim_deploy.errors import BackendError
from maxim_deploy.spec.bundle import Bundle


def test_pictures_are_the_same_everywhere_and_padded_as_published() -> None:
    workload = Workload("onnxruntime", "x", (70, 64), batch=2)
    first, second = workload.pictures()
    assert first.shape == (70, 64, 3) and first.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert np.array_equal(first, Workload("torch", "y", (70, 64), batch=2).pictures()[0])
    assert workload.inputs("image").shape == (2, 70, 64, 3)
    tensor = workload.inputs("tensor")
    assert tensor.shape == (2, 3, 128, 64) and tensor.flags.c_contiguous
    own = workload.unpadded(tensor, "tensor")
    assert np.abs(own[0] * 255 - first).max() < 1e-3
    assert np.array_equal(workload.unpadded(workload.inputs("image"), "image"), own)


def test_a_graph_on_the_cpu(tmp_path: Path) -> None:
    graph = write(tmp_path / "fp32.tensor.onnx", node("Neg", "image", "restored"))
    workload = Workload("onnxruntime", str(graph), (64, 128))
    runner = runner_of(workload)
    assert (runner.device, runner.io, runner.cuda) == ("cpu", "tensor", None)
    assert list(runner.brackets) == ["network"]  # without a bundle there is no image path
    timed = runner.brackets["network"]()
    assert timed.wall_ms > 0 and timed.gpu_ms is None
    assert np.array_equal(runner.result(), -workload.unpadded(workload.inputs("tensor"), "tensor"))
    with pytest.raises(KeyError):
        runner.restorer()


def test_a_bundle_on_the_cpu(demo_bundle: Path) -> None:
    workload = Workload("onnxruntime", str(demo_bundle), (60, 64), "fp16", batch=2, threads=1)
    runner = runner_of(workload)
    assert set(runner.brackets) == {"network", "image"}
    runner.brackets["network"]()
    assert runner.brackets["image"]().wall_ms > 0
    info = runner.restorer().info
    assert (info.backend, info.precision) == ("onnxruntime", "fp16")
    whole = runner.restorer()(workload.pictures()[0])
    assert np.abs(runner.result()[0].clip(0, 1) * 255 - whole).max() <= 1


def test_pytorch_agrees_with_the_graph(demo_bundle: Path) -> None:
    source = str(demo_bundle)
    eager = runner_of(Workload("torch", source, (64, 100), threads=2))
    ours = runner_of(Workload("onnxruntime", str(demo_bundle), (64, 100)))
    assert list(eager.brackets) == ["network"]
    for runner in (eager, ours):
        runner.brackets["network"]()
    assert np.abs(eager.result() - ours.result()).max() < 1e-5
    assert (eager.device, eager.io) == ("cpu", None) and eager.library.startswith("torch 2.")
    with pytest.raises(KeyError):
        eager.restorer()


def test_pytorch_without_a_gpu_says_so(tiny_bundle: Bundle) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    source = str(tiny_bundle.path)
    with pytest.raises(BackendError, match="cannot use a GPU here"):
        runner_of(Workload("torch", source, (64, 64), on_gpu=True))


def test_gpu_time_of_pytorch_is_between_events(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = torch_runner.TorchRunner(Workload("torch", str(tiny_bundle.path), (64, 64)))
    order: list[str] = []
    monkeypatch.setattr(runner._torch, "cuda", FakeEvents(order))
    monkeypatch.setattr(runner, "_run", lambda: order.append("ran"))
    assert runner._between_events().gpu_ms == 1.5
    assert order == ["made", "made", "recorded", "ran", "recorded", "waited"]


@pytest.fixture
def fake_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A bundle with an engine that inverts, and the stand-ins for CUDA and TensorRT."""
    pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")
    from gpus import L4

    from maxim_deploy.runtime import request, tensorrt_engines
    from maxim_deploy.runtime.cuda import cuda_bindings

    api = FakeRuntime(total=64 << 20)
    monkeypatch.setattr(cuda_bindings, "require", lambda *_: api)
    module = fake_tensorrt.fake_module(api)
    monkeypatch.setattr(tensorrt_engines, "load_library", lambda name: module)
    monkeypatch.setattr(tensorrt_engines, "find_gpu", lambda device: L4)
    monkeypatch.setattr(tensorrt_engines, "validity_of", lambda *_: Validity())
    monkeypatch.setattr(request, "find_gpu", lambda device: L4)
    bundle = Bundle.open(write_bundle(tmp_path / "bundle", tiny_graph()))
    bundle.manifest.engines.append(entry_of(bundle))
    bundle.write()
    return bundle, api, module


def test_an_engine_runs_in_each_bracket(fake_engine) -> None:
    bundle, api, _ = fake_engine
    workload = Workload("tensorrt", str(bundle.path), (64, 96), "fp16", on_gpu=True)
    runner = runner_of(workload)
    assert set(runner.brackets) == {"network", "transfer", "image"}
    assert runner.device == "cuda:0 NVIDIA L4"

    api.calls.clear()
    timed = runner.brackets["network"]()
    assert timed.gpu_ms == 2.5 and timed.wall_ms > 0
    assert not api.named("cudaMemcpyAsync")  # from device memory to device memory
    api.calls.clear()
    runner.brackets["network"]()
    assert not api.named("cudaMemcpyAsync", "cudaMalloc", "cudaHostAlloc")  # nothing new
    marks = [name for name, *_ in api.calls if name in ("cudaEventRecord", "cudaEventSynchronize")]
    assert marks.count("cudaEventRecord") >= 2
    assert np.array_equal(
        runner.result(), (255 - workload.inputs("image")).astype(np.float32) / np.float32(255)
    )

    runner.brackets["transfer"]()
    api.calls.clear()
    assert runner.brackets["transfer"]().gpu_ms is None
    assert len(api.named("cudaMemcpyAsync")) == 2  # there and back
    assert runner.brackets["image"]().wall_ms > 0
    assert np.array_equal(runner.restorer()(workload.pictures()[0]), 255 - workload.pictures()[0])
    runner.restorer().close()
    for backend in (runner._backend, runner._whole):  # type: ignore[attr-defined]
        backend.close()


def test_kernels_are_compiled_before_they_are_timed(fake_engine) -> None:
    """Of the restorer that is timed afterwards, too: it finds them beside the engine."""
    bundle, _, trt = fake_engine
    bundle.manifest.engines[:] = [entry_of(bundle, "tensorrt-rtx")]
    bundle.write()
    runner = runner_of(Workload("tensorrt-rtx", str(bundle.path), (64, 96), "fp16", on_gpu=True))
    (config,) = trt.engines[0].configs
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
    config.cache.content = b"kernels"
    runner.brackets["network"]()
    runner.brackets["image"]()
    (config,) = trt.engines[1].configs
    assert config.dynamic_shapes_kernel_specialization_strategy == "lazy"
    assert config.cache.content == b"kernels"
    runner.restorer().close()
    runner._backend.close()  # type: ignore[attr-defined]


def test_onnxruntime_on_a_gpu_has_no_gpu_time(
    fake_engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.fake_onnxruntime import FakeOrt

    from maxim_deploy.runtime import onnxruntime_cuda

    bundle, *_ = fake_engine
    monkeypatch.setattr(onnxruntime_cuda, "require", lambda *_: FakeOrt())
    workload = Workload("onnxruntime-cuda", str(bundle.path), (24, 32), "fp16", on_gpu=True)
    runner = runner_of(workload)
    assert set(runner.brackets) == {"network", "transfer", "image"}
    timed = runner.brackets["network"]()
    assert timed.gpu_ms is None and timed.wall_ms > 0
    network = runner.result()
    runner.brackets["transfer"]()
    assert network.shape == (1, 24, 32, 3) and network.std() > 0


@pytest.mark.gpu
def test_on_a_gpu(demo_bundle: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU that PyTorch can use")
    source = str(demo_bundle)
    reference = runner_of(Workload("torch", source, (256, 256)))
    eager = runner_of(Workload("torch", source, (256, 256), "fp16", on_gpu=True))
    for runner in (reference, eager):
        runner.brackets["network"]()
    timed = eager.brackets["network"]()
    assert timed.gpu_ms is not None and 0 < timed.gpu_ms <= timed.wall_ms * 1.5
    assert np.abs(reference.result() - eager.result()).max() < 2e-2
