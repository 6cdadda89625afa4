"""ONNX Runtime on a GPU: the installed CPU build, and that build passing for one with CUDA."""

from __future__ import annotations

import ctypes
import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as real
import pytest
from engines.bundles import tiny_graph
from runtime.fake_onnxruntime import CPU, FakeBinding, FakeOrt

from maxim_deploy.errors import BackendError, OutOfMemoryError
from maxim_deploy.graph.files import save_graph
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.runtime import onnxruntime_cuda
from maxim_deploy.runtime.cuda import DeviceArray
from maxim_deploy.runtime.onnxruntime_cuda import OnnxRuntimeCuda
from maxim_deploy.runtime.onnxruntime_session import CUDA
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.profiles import Shape

S_1 = Architecture(32, 1, 2, 2)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    save_graph(tiny_graph(), tmp_path / "fp16.image.onnx", "fp16.weights", {})
    return tmp_path / "fp16.image.onnx"


@pytest.fixture
def ort(monkeypatch):
    def pretend(**options: object) -> FakeOrt:
        fake = FakeOrt(**options)
        monkeypatch.setattr(onnxruntime_cuda, "require", lambda *_: fake)
        monkeypatch.setattr(onnxruntime_cuda, "_cuda", lambda device: None)
        return fake

    return pretend


def picture(width: int = 32) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (1, 24, width, 3), np.uint8)


def on_cpu(graph: Path, image: np.ndarray) -> np.ndarray:
    session = real.InferenceSession(str(graph), providers=[CPU])
    return session.run(None, {"image": image})[0]


@pytest.mark.skipif(CUDA in real.get_available_providers(), reason="onnxruntime-gpu is installed")
def test_the_cpu_build_is_refused(graph: Path) -> None:
    with pytest.raises(BackendError) as caught:
        OnnxRuntimeCuda(graph, "fp16", "image")
    line = "pip uninstall -y onnxruntime && pip install 'maxim-deploy[gpu]'"
    assert str(caught.value).endswith(f"; run: {line}")


def test_a_run(ort, graph: Path) -> None:
    fake = ort()
    backend = OnnxRuntimeCuda(graph, "fp16", "image", threads=1)
    for width in (32, 40, 40):
        image = picture(width)
        restored = backend.run(image)
        assert restored.dtype == np.uint8 and np.array_equal(restored, on_cpu(graph, image))
    # memory is given back after a shape that is new, and kept for one that stays
    assert fake.shrunk == ["gpu:0", "gpu:0", ""]
    assert fake.provider["arena_extend_strategy"] == "kSameAsRequested"
    assert fake.provider["device_id"] == 0 and fake.options.intra_op_num_threads == 1
    assert not fake.options.enable_mem_reuse
    assert (backend.name, backend.library) == ("onnxruntime-cuda", "onnxruntime-gpu 1.32.0")
    assert backend.device.startswith("cuda:0")
    assert (backend.precision, backend.io) == ("fp16", "image")


def test_memory_is_given_back_by_a_small_run(ort, graph: Path) -> None:
    fake = ort()
    backend = OnnxRuntimeCuda(graph, "fp16", "image", threads=1)
    backend.release()
    assert not fake.shrunk
    for _ in range(2):
        backend.run(picture())
    backend.release()
    assert fake.shrunk == ["gpu:0", "", "gpu:0"]
    backend.close()


def test_device_arrays(ort, graph: Path) -> None:
    ort()
    backend, image = OnnxRuntimeCuda(graph, "fp16", "image"), picture()
    array = DeviceArray(image.ctypes.data, image.shape, image.dtype, None, image)
    restored = backend.run_on_device(array)
    memory = (ctypes.c_uint8 * restored.nbytes).from_address(restored.address)
    assert np.array_equal(
        np.frombuffer(memory, np.uint8).reshape(image.shape), on_cpu(graph, image)
    )


def test_no_cuda_at_run_time_is_an_error(ort, graph: Path) -> None:
    ort(cuda_works=False)
    with pytest.raises(
        BackendError, match=r"fell back to the CPU: .*onnxruntime-gpu\[cuda,cudnn\]"
    ):
        OnnxRuntimeCuda(graph, "fp16", "image")


def test_a_compute_node_on_the_cpu_is_an_error(ort, graph: Path) -> None:
    ort(on_cpu=("Conv", "Transpose", "Cast"))
    with pytest.raises(BackendError, match=r"would run 2 Transpose, 1 Conv on the CPU, 'stages/0/"):
        OnnxRuntimeCuda(graph, "fp16", "image")
    ort(on_cpu=("Cast",))  # so do sizes
    OnnxRuntimeCuda(graph, "fp16", "image")
    ort(on_cpu=("Cast", "Conv", "Transpose", "Round"))
    with pytest.raises(BackendError, match="puts no node of the graph on the GPU"):
        OnnxRuntimeCuda(graph, "fp16", "image")


def test_an_onnxruntime_that_cannot_say_where_nodes_are(ort, graph: Path, monkeypatch) -> None:
    fake = ort()
    whole = fake.InferenceSession

    def old(*arguments: object, **options: object) -> SimpleNamespace:
        session = whole(*arguments, **options)
        del session.get_provider_graph_assignment_info
        return session

    monkeypatch.setattr(fake, "InferenceSession", old)
    with pytest.raises(BackendError, match=r"1\.24 and newer can; run: pip install --upgrade"):
        OnnxRuntimeCuda(graph, "fp16", "image")


def test_a_graph_that_cannot_be_loaded(ort, tmp_path: Path) -> None:
    ort()
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"cannot load '.*bad\.onnx'"):
        OnnxRuntimeCuda(tmp_path / "bad.onnx", "fp16", "image")


@pytest.mark.parametrize(
    "said, kind",
    [
        ("BFCArena: Failed to allocate memory for requested buffer of size 9", OutOfMemoryError),
        ("CUDA failure 2: out of memory", OutOfMemoryError),
        ("CUBLAS_STATUS_ALLOC_FAILED", OutOfMemoryError),
        ("CUDA failure 700: an illegal memory access was encountered", BackendError),
    ],
)
def test_failures(ort, graph: Path, said: str, kind: type[Exception]) -> None:
    fake = ort()
    backend = OnnxRuntimeCuda(graph, "fp16", "image")
    fake.failing = said
    with pytest.raises(kind, match="failed on an input of 1x24x32x3"):
        backend.run(picture())
    fake.failing = ""
    assert backend.run(picture()).shape == (1, 24, 32, 3)
    backend.close()
    with pytest.raises(BackendError, match="is closed"):
        backend.run(picture())


def test_shapes_and_memory(ort, graph: Path) -> None:
    ort()
    image = OnnxRuntimeCuda(graph, "fp32", "image", architecture=S_1)
    tensor = OnnxRuntimeCuda(graph, "fp16", "tensor", architecture=S_1)
    assert image.takes(Shape(1, 65, 3)) and not tensor.takes(Shape(1, 65, 64))
    assert tensor.takes(Shape(2, 128, 64)) and image.free_bytes() is None
    assert image.bytes_for(Shape(1, 65, 64)) == image.bytes_for(Shape(1, 128, 64))
    halved = tensor.bytes_for(Shape(2, 64, 64)) / image.bytes_for(Shape(2, 64, 64))
    assert halved == pytest.approx(0.5, rel=1e-5)


def test_the_fakes_have_the_signatures_of_the_package() -> None:
    for name in ("bind_ortvalue_input", "bind_input", "bind_output"):
        fake = list(inspect.signature(getattr(FakeBinding, name)).parameters)[1:]
        theirs = list(inspect.signature(getattr(real.IOBinding, name)).parameters)[1:]
        assert fake == theirs[: len(fake)]
    assert "enable_fallback" in inspect.getsource(real.InferenceSession.__init__)
    made = inspect.signature(real.OrtValue.ortvalue_from_numpy).parameters
    assert list(made)[:3] == ["numpy_obj", "device_type", "device_id"]
    assert callable(real.preload_dlls) and callable(real.OrtValue.data_ptr)


@pytest.mark.gpu
def test_on_a_gpu(graph: Path) -> None:
    if find_gpu() is None:
        pytest.skip("no NVIDIA GPU or driver here")
    if CUDA not in real.get_available_providers():
        pytest.skip("this onnxruntime is built for CPUs")
    backend = OnnxRuntimeCuda(graph, "fp16", "image")
    for width in (32, 40, 40, 32):
        difference = backend.run(picture(width)).astype(int) - on_cpu(graph, picture(width))
        assert np.abs(difference).max() <= 1
    backend.close()
