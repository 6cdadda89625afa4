"""Arrays in device memory through an engine: whose stream, which addresses, when a graph."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
from engines.bundles import entry_of
from gpus import need_gpus, torch_on_gpu

pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")

from runtime.cuda.fakes import ERRORS
from runtime.engine_runs import fetched, on_device, opened, picture

from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.runtime import tensorrt_engines
from maxim_deploy.runtime.cuda import open_cuda
from maxim_deploy.runtime.engine_set import EngineSet
from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.restorer import Restorer
from maxim_deploy.runtime.tensorrt_backend import TensorRtBackend
from maxim_deploy.runtime.tensorrt_contexts import KEPT_GRAPHS
from maxim_deploy.spec.descriptor import Descriptor

STREAM = 0xCD
"""Of the caller's."""


def restorer_of(bundle, device: int = 0, **options: object) -> Restorer:
    entry, cuda = entry_of(bundle), open_cuda(device=device)
    backend = EngineSet([entry], lambda e: TensorRtBackend(bundle, e, cuda, **options))
    info = RestorerInfo(Descriptor("x"), None, "fp16", "image", "tensorrt", "cuda:0", "none")
    return Restorer(backend, info)


def counts(api, *names: str) -> list[int]:
    return [len(api.named(name)) for name in names]


GRAPHS = ("cudaStreamSynchronize", "cudaGraphInstantiate", "cudaGraphLaunch")


def test_device_arrays(trt, api, bundle) -> None:
    backend, cuda = opened(bundle), open_cuda()
    image = on_device(cuda, picture(), stream=0xAB)
    restored = backend.run_on_device(image)
    assert np.array_equal(fetched(cuda, restored), 255 - picture()) and restored.stream is None
    assert api.named("cudaEventRecord")[-2][2] == api.cudaStream_t(0xAB)  # the producer's, first
    again = backend.run_on_device(image, out=restored)
    assert again.address == restored.address
    with pytest.raises(UsageError, match="multiples of 256"):
        backend.run_on_device(replace(image, address=image.address + 8))
    with pytest.raises(UsageError, match="out must be writable"):
        backend.run_on_device(image, out=replace(restored, read_only=True))
    backend.close()


def test_the_callers_stream_is_used_and_left_alone(trt, api, bundle) -> None:
    with restorer_of(bundle, stream=STREAM) as restorer:
        restorer(picture()[0])
        restored = restorer(on_device(open_cuda(), picture(64, 64, 3)))
        assert restored.stream == STREAM
    (context,) = trt.engines[0].contexts
    assert {call[1] for call in context.calls if call[0] == "execute"} == {STREAM}
    assert api.cudaStream_t(STREAM) not in [call[1] for call in api.named("cudaStreamDestroy")]


@pytest.mark.parametrize("passes_out", [True, False])
def test_five_calls_wait_for_nothing_and_are_one_graph(trt, api, bundle, passes_out: bool) -> None:
    with restorer_of(bundle, stream=STREAM) as restorer:
        image, out = (on_device(open_cuda(), picture(seed=seed)) for seed in range(2))
        for _ in range(5):
            restored = restorer(image, out=out if passes_out else None)
            assert np.array_equal(fetched(open_cuda(), restored), 255 - picture())
            assert not passes_out or restored.address == out.address
            del restored  # its memory is the next result's
        assert counts(api, *GRAPHS) == [0, 1, 4]


def test_whoever_keeps_the_last_result_has_two_graphs(trt, api, bundle) -> None:
    with restorer_of(bundle, stream=STREAM) as restorer:
        image, kept = on_device(open_cuda(), picture()), None
        for _ in range(10):
            kept = restorer(image)
        assert kept is not None and counts(api, *GRAPHS) == [0, 2, 8]


def test_addresses_that_never_come_again_wait_for_nothing(trt, api, bundle) -> None:
    with restorer_of(bundle, stream=STREAM) as restorer:
        images = [on_device(open_cuda(), picture(seed=seed)) for seed in range(2 * KEPT_GRAPHS)]
        for seed, image in enumerate(images):
            restored = restorer(image)
            assert np.array_equal(fetched(open_cuda(), restored), 255 - picture(seed=seed))
        assert counts(api, *GRAPHS) == [0, 0, 0]


def test_a_graph_that_goes_has_run(trt, api, bundle) -> None:
    with restorer_of(bundle, stream=STREAM) as restorer:
        image = on_device(open_cuda(), picture())
        outs = [on_device(open_cuda(), picture()) for _ in range(KEPT_GRAPHS + 1)]
        for out in outs:
            restorer(image, out=out)
            restorer(image, out=out)
        names = [call[0] for call in api.named("cudaStreamSynchronize", "cudaGraphExecDestroy")]
        assert names == ["cudaStreamSynchronize", "cudaGraphExecDestroy"]


def test_without_a_stream_the_result_is_there(trt, api, bundle) -> None:
    with restorer_of(bundle) as restorer:
        image, out = (on_device(open_cuda(), picture(seed=seed)) for seed in range(2))
        assert all(restorer(image, out=out).stream is None for _ in range(5))
        assert counts(api, *GRAPHS) == [5, 1, 4]
        assert not api.named("cudaMallocAsync")


def test_memory_of_a_gpu_without_pools(trt, api, bundle) -> None:
    api.has_pools = 0
    with restorer_of(bundle, stream=STREAM) as restorer:
        restored = restorer(on_device(open_cuda(), picture()))
        assert np.array_equal(fetched(open_cuda(), restored), 255 - picture())
    assert not api.named("cudaMallocAsync")


def test_out_is_for_device_arrays(trt, bundle) -> None:
    with restorer_of(bundle) as restorer:
        with pytest.raises(UsageError, match="out is for images in device memory"):
            restorer(picture()[0], out=np.empty((64, 64, 3), np.uint8))
        image = on_device(open_cuda(), picture())
        for options in ({"rounding": "truncate"}, {"self_ensemble": True}):
            with pytest.raises(UsageError, match="supports neither rounding nor self-ensemble"):
                restorer(image, **options)


# ------------------------------------------------------------------ the default stream


def test_the_default_stream_has_the_name_that_arrays_may_have(trt, api, bundle, caplog) -> None:
    """torch's default stream is 0, which a result must not name; and nothing can be captured."""
    with restorer_of(bundle, stream=0) as restorer:
        image = on_device(open_cuda(), picture())
        for _ in range(4):
            restored = restorer(image)
            assert np.array_equal(fetched(open_cuda(), restored), 255 - picture())
            assert restored.__cuda_array_interface__["stream"] == 1
        assert restorer.info.notes == (
            "running without CUDA graphs: cudaStreamBeginCapture failed on GPU 0: "
            "cudaErrorStreamCaptureUnsupported",
        )
    assert counts(api, "cudaStreamBeginCapture", "cudaGraphLaunch") == [1, 0]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1


def test_a_capture_that_fails_is_said_once(trt, api, bundle, caplog) -> None:
    api.fail["cudaGraphInstantiate"] = ERRORS.cudaErrorNotSupported
    with restorer_of(bundle) as restorer:
        assert restorer.info.notes == ()
        for width in (64, 96):
            for _ in range(3):
                assert np.array_equal(restorer(picture(64, width)[0]), 255 - picture(64, width)[0])
        (note,) = restorer.info.notes  # type: ignore[misc]
    assert "cudaErrorNotSupported" in note and caplog.text.count("without CUDA graphs") == 1


# ------------------------------------------------------------------ several GPUs


class Tensor:
    """As torch's: an interface that names no stream, and DLPack for the current GPU only."""

    def __init__(self, api, image: np.ndarray, device: int = 0) -> None:
        self.api, self.image, self.device = api, image, device
        self.asked: list[tuple[int, int]] = []

    @property
    def __cuda_array_interface__(self):
        return {**self.image.__array_interface__, "version": 2}

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device

    def __dlpack__(self, *, stream: int):
        assert self.api.current == self.device, "another GPU is current"
        self.asked.append((stream, threading.get_ident()))
        return self.image.__dlpack__()


def aligned(image: np.ndarray) -> np.ndarray:
    room = np.empty(image.nbytes + 256, np.uint8)
    start = -room.ctypes.data % 256
    view = room[start : start + image.nbytes].reshape(image.shape)
    view[:] = image
    return view


def test_torch_waits_for_what_it_is_writing(trt, api, bundle) -> None:
    tensor = Tensor(api, aligned(picture()))
    for stream, waits in ((STREAM, STREAM), (None, 1)):
        with restorer_of(bundle, stream=stream) as restorer:
            restored = restorer(tensor)
            assert np.array_equal(fetched(open_cuda(), restored), 255 - picture())
        assert tensor.asked[-1][0] == waits
    # in streams of its own, the run waits for the one that waits for the tensor
    assert api.cudaStream_t(1) in [call[2] for call in api.named("cudaEventRecord")]


def test_arrays_are_taken_in_the_thread_that_wrote_them(trt, api, bundle) -> None:
    image, out = (Tensor(api, aligned(picture(seed=seed))) for seed in range(2))
    with restorer_of(bundle) as restorer:
        restored = restorer.submit(image, out=out).result()
    assert restored.address == out.image.ctypes.data and np.array_equal(out.image, 255 - picture())
    assert {thread for _, thread in image.asked + out.asked} == {threading.get_ident()}


def test_the_second_gpu(trt, api, bundle, monkeypatch) -> None:
    """The fakes check that GPU 1 is current where the library uses the current one."""
    trt.device = api.device_of_memory = 1
    asked = []
    valid = tensorrt_engines.validity_of
    monkeypatch.setattr(
        tensorrt_engines,
        "validity_of",
        lambda *_: (asked.append(api.current), valid())[1],  # type: ignore[call-arg]
    )
    with restorer_of(bundle, device=1) as restorer:
        restored = restorer(Tensor(api, aligned(picture()), device=1))
        assert np.array_equal(fetched(open_cuda(device=1), restored), 255 - picture())
        with pytest.raises(UsageError, match=r"on DLPack device 2:0, not on GPU 1 \(2:1\)"):
            restorer(Tensor(api, picture(), device=0))
        with pytest.raises(UsageError, match=r"on DLPack device 2:0, not on GPU 1"):
            restorer.submit(Tensor(api, picture(), device=0))
        api.device_of_memory = 0  # an interface says nothing of it
        with pytest.raises(UsageError, match="the array is on GPU 0, not on GPU 1"):
            restorer(on_device(open_cuda(device=1), picture()))
    assert asked == [1]


def test_a_closed_restorer_takes_none(trt, bundle) -> None:
    restorer = restorer_of(bundle)
    image = on_device(open_cuda(), picture())
    restorer.close()
    with pytest.raises(BackendError, match="is closed"):
        restorer(image)
    assert restorer.info.notes == ()


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["tensorrt-rtx", "tensorrt"])
def test_torch_on_a_gpu(bundle, library: str) -> None:
    """Tensors that torch is still writing, in its stream and in ours; graphs and `out`."""
    need_gpus(1, library)
    torch = torch_on_gpu()
    from engines.bundles import settings

    from maxim_deploy.engines.store import add_engine
    from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu

    entry, _ = add_engine(bundle.path, settings("256x256", library=library))
    expected = OnnxRuntimeCpu(bundle.path / "fp16.image.onnx").run(picture(256, 256))
    side = torch.cuda.Stream()
    for stream in (None, side.cuda_stream):
        backend = TensorRtBackend(bundle, entry, open_cuda(), stream=stream)
        with torch.cuda.stream(side):
            image, out = torch.zeros(1, 256, 256, 3, dtype=torch.uint8, device="cuda"), None
            for _ in range(6):
                torch.cuda._sleep(50_000_000)  # the tensor is not written for a while
                image.copy_(torch.as_tensor(picture(256, 256)), non_blocking=True)
                taken = backend.device_array(image)
                out = backend.run_on_device(taken, out)
                restored = torch.as_tensor(out, device="cuda").clone()
                image.zero_()  # in the order of the stream: after the run
                side.synchronize()
                assert np.abs(restored.cpu().numpy().astype(int) - expected).max() <= 1
        assert not any("without CUDA graphs" in note for note in backend.notes)
        backend.close()


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["tensorrt-rtx", "tensorrt"])
def test_two_gpus(bundle, library: str) -> None:
    need_gpus(2, library)
    torch = torch_on_gpu()
    from engines.bundles import settings

    from maxim_deploy.engines.store import add_engine

    entry, _ = add_engine(bundle.path, settings("256x256", library=library))
    results = []
    for device in range(2):
        backend = TensorRtBackend(bundle, entry, open_cuda(device=device))
        image = torch.as_tensor(picture(256, 256), device=f"cuda:{device}")
        results.append(backend.run(picture(256, 256)))
        restored = backend.run_on_device(backend.device_array(image))
        assert np.array_equal(
            torch.as_tensor(restored, device=f"cuda:{device}").cpu().numpy(), results[-1]
        )
        with pytest.raises(UsageError, match=f"not on GPU {device}"):
            backend.device_array(image.to(f"cuda:{1 - device}"))
        assert torch.cuda.current_device() == 0
        backend.close()
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1
