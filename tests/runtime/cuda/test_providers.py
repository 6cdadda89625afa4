"""Both providers, at the surface of their bindings."""

from __future__ import annotations

import gc
import sys
import threading
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")

from runtime.cuda import fakes

from maxim_deploy.errors import BackendError, MissingDependencyError, OutOfMemoryError, UsageError
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.runtime.cuda import (
    DEFAULT_STREAM,
    Cuda,
    cuda_bindings,
    open_cuda,
    pycuda_provider,
)


@pytest.fixture
def api(monkeypatch) -> fakes.FakeRuntime:
    fake = fakes.FakeRuntime()
    monkeypatch.setattr(cuda_bindings, "require", lambda *_: fake)
    return fake


@pytest.fixture
def pycuda(monkeypatch) -> fakes.FakePyCuda:
    fake = fakes.FakePyCuda()
    monkeypatch.setattr(pycuda_provider, "require", lambda *_: fake)
    return fake


def there_and_back(cuda: Cuda) -> np.ndarray:
    stream = cuda.stream()
    source, target = cuda.pinned((2, 3), np.float32), cuda.pinned((2, 3), np.float32)
    source[:] = [[1, 2, 3], [4, 5, 6]]
    memory = cuda.allocate(source.nbytes)
    cuda.upload(memory.address, source, stream)
    cuda.download(target, memory.address, stream)
    cuda.synchronize(stream)
    return target


def test_there_and_back(api) -> None:
    assert there_and_back(open_cuda()).tolist() == [[1, 2, 3], [4, 5, 6]]
    gc.collect()
    assert not api.blocks  # memory and page-locked arrays went with the last reference


def test_the_current_device_is_put_back(api) -> None:
    cuda = open_cuda(device=0)
    assert api.current == 7
    with cuda.active():
        assert api.current == 0
        cuda.memory()
        assert api.current == 0
    assert api.current == 7
    with pytest.raises(ZeroDivisionError), cuda.active():
        _ = 1 / 0
    assert api.current == 7


def test_a_view_keeps_page_locked_memory(api) -> None:
    array = open_cuda().pinned((4, 4), np.uint8)
    view = array[1:].view(np.uint16)
    del array
    gc.collect()
    assert len(api.blocks) == 1
    view[:] = 3
    del view
    gc.collect()
    assert not api.blocks
    assert open_cuda().pinned((0, 3), np.float32).shape == (0, 3)


def test_closing_twice_frees_once(api) -> None:
    memory = open_cuda().allocate(16)
    memory.close()
    memory.close()
    assert len([call for call in api.named("cudaFree") if call[1]]) == 1


def test_out_of_memory(api) -> None:
    cuda = open_cuda()
    with pytest.raises(OutOfMemoryError, match=r"cudaMalloc .* cudaErrorMemoryAllocation, 1048576"):
        cuda.allocate(api.total + 1)
    # the error must not be left for the next library that asks
    assert api.named("cudaGetLastError")
    cuda.allocate(api.total).close()


def test_other_failures_have_the_name_of_the_error(api) -> None:
    cuda = open_cuda()
    api.fail["cudaStreamSynchronize"] = fakes.ERRORS.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match="cudaStreamSynchronize .* cudaErrorIllegalAddress"):
        cuda.synchronize(cuda.stream())
    api.fail["cudaFree"] = fakes.ERRORS.cudaErrorIllegalAddress
    cuda.allocate(1).close()  # giving back never raises


def test_streams_and_events(api) -> None:
    cuda = open_cuda()
    mine, theirs, event = cuda.stream(), cuda.wrap_stream(0xAB), cuda.event()
    assert theirs.handle == 0xAB and mine.handle != 0
    cuda.record(event, theirs)
    cuda.wait(mine, event)
    assert cuda.elapsed_ms(event, event) == 2.5
    theirs.close()
    assert not api.named("cudaStreamDestroy")
    mine.close()
    assert len(api.named("cudaStreamDestroy")) == 1
    cuda.synchronize()
    assert api.named("cudaDeviceSynchronize")


def test_capture(api) -> None:
    cuda = open_cuda()
    stream = cuda.stream()
    graph = cuda.capture(stream, lambda: api.calls.append(("work",)))
    names = [
        call[0] for call in api.named("cudaStreamBeginCapture", "work", "cudaStreamEndCapture")
    ]
    assert names == ["cudaStreamBeginCapture", "work", "cudaStreamEndCapture"]
    assert len(api.named("cudaGraphDestroy")) == 1
    cuda.launch(graph, stream)
    assert api.named("cudaGraphLaunch") == [("cudaGraphLaunch", graph.native, stream.native)]
    graph.close()
    assert len(api.named("cudaGraphExecDestroy")) == 1


def test_a_capture_that_fails_is_ended(api) -> None:
    cuda = open_cuda()
    with pytest.raises(ZeroDivisionError):
        cuda.capture(cuda.stream(), lambda: 1 / 0)
    assert len(api.named("cudaStreamEndCapture")) == 1 and not api.named("cudaGraphInstantiate")


def test_garbage_that_is_found_in_a_capture_stays_until_it_is_over(api) -> None:
    """Freeing device memory in the capturing thread spoils the capture, whoever's it is."""
    cuda, stream = open_cuda(), open_cuda().stream()

    def work() -> None:
        for _ in range(10):
            circle: list[object] = [cuda_memory.pop()]
            circle.append(circle)
        assert [[] for _ in range(20 * gc.get_threshold()[0])]  # the collector would run now

    cuda_memory = [cuda.allocate(1) for _ in range(10)]
    cuda.capture(stream, work)
    assert gc.isenabled()
    gc.collect()
    names = [call[0] for call in api.named("cudaStreamEndCapture", "cudaFree") if call[1] != 0]
    assert names == ["cudaStreamEndCapture", *["cudaFree"] * 10]


def test_a_collector_that_is_off_stays_off(api) -> None:
    cuda = open_cuda()
    gc.disable()
    try:
        cuda.capture(cuda.stream(), lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_memory_in_the_order_of_a_stream(api) -> None:
    cuda, theirs = open_cuda(), open_cuda().wrap_stream(0xAB)
    memory = cuda.allocate(8, theirs)
    memory.close()
    assert api.named("cudaMallocAsync") == [("cudaMallocAsync", 8, api.cudaStream_t(0xAB))]
    (freed,) = api.named("cudaFreeAsync")
    assert freed[1:] == (memory.address, api.cudaStream_t(0xAB))
    assert cuda.allocate(8, theirs).address == memory.address
    api.fail["cudaMallocAsync"] = fakes.ERRORS.cudaErrorMemoryAllocation
    with pytest.raises(OutOfMemoryError, match="cudaMallocAsync"):
        cuda.allocate(8, theirs)


def test_the_calls_are_those_of_the_package() -> None:
    """The fake counts arguments against the docstrings; here are their names and order."""
    assert fakes.parameters("cudaMemcpyAsync") == ["dst", "src", "count", "kind", "stream"]
    assert fakes.parameters("cudaStreamWaitEvent") == ["stream", "event", "flags"]
    assert fakes.parameters("cudaStreamBeginCapture") == ["stream", "mode"]
    assert fakes.parameters("cudaEventElapsedTime") == ["start", "end"]
    assert fakes.parameters("cudaGetDevice") == []
    assert fakes.parameters("cudaMallocAsync") == ["size", "hStream"]
    assert fakes.parameters("cudaFreeAsync") == ["devPtr", "hStream"]
    assert hasattr(fakes.real.cudaPointerAttributes, "device")
    assert int(fakes.real.cudaStreamLegacy) == DEFAULT_STREAM
    assert int(fakes.real.cudaStreamNonBlocking) == 1 and int(fakes.real.cudaHostAllocDefault) == 0


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here")
def test_without_a_driver() -> None:
    with pytest.raises(BackendError, match="on GPU 0: cudaError(InsufficientDriver|NoDevice)"):
        open_cuda()


def test_unknown_words() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'pycuda'"):
        open_cuda("pycude")
    with pytest.raises(UsageError, match="0 or more, not -1"):
        open_cuda(device=-1)


# ------------------------------------------------------------------ pycuda


def test_pycuda_calls_in_the_primary_context(pycuda) -> None:
    cuda = open_cuda("pycuda")
    there_and_back(cuda)
    stream, event = cuda.stream(), cuda.event()
    cuda.record(event, stream)
    cuda.wait(stream, event)
    cuda.synchronize()
    assert cuda.elapsed_ms(event, event) == 1.5 and cuda.memory() == (10, 20)
    assert pycuda.pushed == 0 and ("Stream", 1) in pycuda.calls
    memory = cuda.allocate(3)
    before = len(pycuda.calls)
    memory.close()
    assert pycuda.calls[before:] == [("free",)]


def test_pycuda_fails_as_ours(pycuda) -> None:
    cuda = open_cuda("pycuda")
    pycuda.full = True
    with pytest.raises(OutOfMemoryError, match="mem_alloc failed on GPU 0: cuMemAlloc failed: out"):
        cuda.allocate(1)
    assert pycuda.pushed == 0
    with pytest.raises(BackendError, match="GPU 3: cuDeviceGet failed: invalid device ordinal"):
        open_cuda("pycuda", device=3)
    with pytest.raises(UsageError, match=r"0xab.*use the provider 'cuda-bindings'"):
        cuda.wrap_stream(0xAB)
    assert not cuda.has_graphs
    with pytest.raises(BackendError, match="no CUDA graphs"):
        cuda.capture(cuda.stream(), print)


def test_pycuda_is_optional_and_never_initialises_itself(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'maxim-deploy\[pycuda\]'"):
        open_cuda("pycuda")
    assert "pycuda.autoinit" not in sys.modules


# ------------------------------------------------------------------ on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("provider", ["cuda-bindings", "pycuda"])
def test_on_a_gpu(provider: str) -> None:
    if find_gpu() is None:
        pytest.skip("no NVIDIA GPU or driver here")
    if provider == "pycuda":
        pytest.importorskip("pycuda", reason="pip install 'maxim-deploy[pycuda]'")
    cuda = open_cuda(provider)
    assert there_and_back(cuda).tolist() == [[1, 2, 3], [4, 5, 6]]
    start, end, stream = cuda.event(), cuda.event(), cuda.stream()
    cuda.record(start, stream)
    cuda.record(end, stream)
    assert 0 <= cuda.elapsed_ms(start, end) < 1000
    with pytest.raises(OutOfMemoryError):
        cuda.allocate(cuda.memory()[1] * 2)
    results: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: results.append(there_and_back(cuda)))
    thread.start()
    thread.join()
    assert results[0][1, 2] == 6
