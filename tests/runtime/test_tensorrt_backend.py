"""Engines at run time, at the surface of the bindings: fakes of TensorRT and CUDA."""

from __future__ import annotations

import re
import threading
from dataclasses import replace

import numpy as np
import pytest
from engines.bundles import CHOSEN, entry_of
from gpus import need_gpus

pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")

from engines.bundles import settings
from runtime import fake_tensorrt
from runtime.cuda.fakes import ERRORS
from runtime.engine_runs import fetched, on_device, opened, picture

from maxim_deploy.engines.validity import Validity
from maxim_deploy.errors import BackendError, BundleError, OutOfMemoryError
from maxim_deploy.runtime import tensorrt_engines
from maxim_deploy.runtime.cuda import open_cuda
from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.restorer import Restorer
from maxim_deploy.runtime.tensorrt_backend import LANES, TensorRtBackend
from maxim_deploy.runtime.tensorrt_contexts import KEPT
from maxim_deploy.runtime.tensorrt_pool import Pool
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.profiles import Shape, profiles_from_specs


def test_a_run(trt, bundle) -> None:
    backend = opened(bundle)
    for image in (picture(), picture(64, 96), picture(65, 64)[:, ::-1]):
        assert np.array_equal(backend.run(image), 255 - image)
    assert (backend.name, backend.device) == ("tensorrt", "cuda:0 NVIDIA L4")
    assert (backend.library, backend.precision, backend.io) == (
        "tensorrt 10.14.1", "fp16", "image",
    )  # fmt: skip
    assert trt.engines[0].contexts[0].made_with == "user"
    backend.close()


def test_images_of_one_size_are_one_run(trt, bundle) -> None:
    profiles = profiles_from_specs(["64x64@1:2:4"], "image")
    backend = TensorRtBackend(bundle, entry_of(bundle, profiles=profiles), open_cuda())
    info = RestorerInfo(Descriptor("x"), None, "fp16", "image", "tensorrt", "cuda:0", "none")
    with Restorer(backend, info) as restorer:
        images = [picture(seed=seed)[0] for seed in range(6)]
        for image, restored in zip(images, restorer.batch(images), strict=True):
            assert np.array_equal(restored, 255 - image)
        assert np.array_equal(restorer(images[0]), 255 - images[0])
    shapes = [call[1] for context in trt.engines[0].contexts for call in context.calls
              if call[0] == "shape"]  # fmt: skip
    assert {shape[0] for shape in shapes} == {3, 1}


def test_results_do_not_share_memory(trt, bundle) -> None:
    backend = opened(bundle)
    first = backend.run(picture(seed=1))
    backend.run(picture(seed=2))
    assert np.array_equal(first, 255 - picture(seed=1))
    backend.close()


def test_the_tightest_profile_and_the_shape_once(trt, bundle) -> None:
    backend = opened(bundle)
    for _ in range(3):
        backend.run(picture(96, 128))
        backend.run(picture(96, 64))
    calls = [call[:2] for context in trt.engines[0].contexts for call in context.calls
             if call[0] in ("profile", "shape")]  # fmt: skip
    assert calls == [
        ("profile", 1), ("shape", (1, 96, 128, 3)), ("profile", 0), ("shape", (1, 96, 64, 3)),
    ]  # fmt: skip
    backend.close()


def test_graphs_are_captured_on_the_second_run(trt, api, bundle) -> None:
    backend = opened(bundle)
    images = [picture(seed=seed) for seed in range(4)]
    assert all(np.array_equal(backend.run(image), 255 - image) for image in images)
    executed = [call for call in trt.engines[0].contexts[0].calls if call[0] == "execute"]
    assert len(executed) == 2 and executed[0] == executed[1]  # the second is captured where it runs
    assert len(api.named("cudaGraphLaunch")) == 3
    backend.close()
    assert len(api.named("cudaGraphExecDestroy")) == 1


def test_graphs_go_when_the_pool_grows(trt, api, bundle) -> None:
    backend = opened(bundle, stream=9)  # one lane
    backend.run(picture(96, 96))
    backend.run(picture(96, 96))
    assert len(api.named("cudaGraphInstantiate")) == 1
    backend.run(picture(256, 256))  # pool and buffers grow: every address changes
    assert np.array_equal(backend.run(picture(96, 96)), 255 - picture(96, 96))
    assert len(api.named("cudaGraphExecDestroy")) == 1
    backend.run(picture(96, 96))
    assert len(api.named("cudaGraphInstantiate")) == 2
    backend.close()


def test_a_failed_capture_runs_without(trt, api, bundle) -> None:
    backend = opened(bundle)
    api.fail["cudaGraphInstantiate"] = ERRORS.cudaErrorNotSupported
    for seed in range(4):
        assert np.array_equal(backend.run(picture(seed=seed)), 255 - picture(seed=seed))
    assert len(api.named("cudaStreamBeginCapture")) == 1
    backend.close()


@pytest.mark.parametrize("chosen", ["off", "whole-graph"])
def test_rtx_captures_by_itself(trt, api, bundle, chosen: str) -> None:
    runtime = {**CHOSEN, "cuda_graphs": chosen, "specialization": "eager"}
    entry = entry_of(bundle, "tensorrt-rtx", runtime=runtime)
    backend = TensorRtBackend(bundle, entry, open_cuda())
    for _ in range(3):
        backend.run(picture())
    (config,) = trt.engines[0].configs
    assert trt.engines[0].contexts[0].made_with is config and config.strategy == "user"
    assert config.cuda_graph_strategy == {"off": "no", "whole-graph": "whole"}[chosen]
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert not api.named("cudaStreamBeginCapture")
    backend.close()


def test_graphs_can_be_switched_off(trt, api, bundle) -> None:
    entry = entry_of(bundle, runtime={**CHOSEN, "cuda_graphs": "off"})
    backend = TensorRtBackend(bundle, entry, open_cuda())
    backend.run(picture())
    backend.run(picture())
    assert not api.named("cudaStreamBeginCapture")
    backend.close()


def test_few_contexts_for_many_shapes(trt, bundle) -> None:
    backend = opened(bundle)
    for width in range(64, 64 + 3 * KEPT):
        assert backend.run(picture(64, width)).shape == (1, 64, width, 3)
    assert len(trt.engines[0].contexts) == KEPT
    backend.close()


def test_one_pool_of_the_size_in_use(trt, api, bundle) -> None:
    one, two = opened(bundle), opened(bundle)
    assert len(trt.engines) == 1  # deserialized once
    one.run(picture(64, 64))
    two.run(picture(128, 64))
    one.run(picture(64, 64))
    addresses = {c.memory for context in trt.engines for c in context.contexts}
    assert {size for _, size in addresses} <= {40960, 81920}
    assert one._shared.pool.size == 128 * 64 * 10
    one.close()
    two.run(picture())  # one user is left
    two.close()
    assert not api.blocks


def test_a_pool_frees_before_it_grows(api) -> None:
    cuda = open_cuda()
    pool, stream = Pool(cuda), cuda.stream()
    api.total = 1000
    with pool.turn(stream):
        assert pool.reserve(600, stream) == pool.reserve(500, stream)
        pool.reserve(900, stream)  # both at a time would not fit
        with pytest.raises(OutOfMemoryError):
            pool.reserve(1001, stream)
        assert pool.size == 0 and pool.reserve(700, stream)
    pool.close()
    assert not api.blocks


def test_the_pool_waits_for_its_last_use_in_another_stream(api) -> None:
    cuda = open_cuda()
    pool, first, second = Pool(cuda), cuda.stream(), cuda.stream()
    for stream in (first, second):
        with pool.turn(stream):
            api.calls.append(("work", stream.native))
    calls = api.named("cudaStreamWaitEvent", "work", "cudaEventRecord")
    assert [call[0] for call in calls] == ["cudaStreamWaitEvent", "work", "cudaEventRecord"] * 2
    assert calls[3][1] == second.native and calls[3][2] == calls[2][1]  # the event of the first


def test_memory_is_known(trt, api, bundle) -> None:
    backend = opened(bundle)
    shape, buffers = Shape(1, 96, 96), 2 * 96 * 96 * 3
    padded = 128 * 128 / (256 * 256)
    assert backend.bytes_for(shape) == padded * 256 * 256 * 10 + buffers
    backend.run(picture(96, 96))
    assert backend.bytes_for(shape) == 96 * 96 * 10 + buffers
    assert backend.free_bytes() == api.total - buffers  # page-locked memory is the fake's, too
    assert backend.takes(Shape(1, 256, 256)) and not backend.takes(Shape(1, 257, 256))
    backend.close()


def test_memory_is_given_back(trt, api, bundle) -> None:
    one, two = opened(bundle), opened(bundle)
    for _ in range(3):
        one.run(picture(96, 96))
    assert one.held_bytes() == 96 * 96 * 10 + 2 * 96 * 96 * 3
    assert len(api.named("cudaGraphInstantiate")) == 1
    one.release()
    assert one.held_bytes() == 0 and len(api.named("cudaGraphExecDestroy")) == 1
    for seed in range(3):
        for backend in (one, two):  # one shape, one engine, and a graph of each
            image = picture(96, 96, seed)
            assert np.array_equal(backend.run(image), 255 - image)
    assert len(trt.engines[0].contexts) == 2  # the first one's is still there
    one.close()
    one.release()
    assert np.array_equal(two.run(picture()), 255 - picture())
    two.close()


def test_pictures_in_tiles_keep_memory_and_graphs(trt, api, bundle) -> None:
    """Whether memory or the profiles are the reason for tiles, the next picture needs it again."""
    info = RestorerInfo(Descriptor("x"), None, "fp16", "image", "tensorrt", "cuda:0", "none")
    with Restorer(opened(bundle), info) as restorer:
        image = picture(300, 400)[0]
        names = ("cudaMalloc", "cudaGraphInstantiate", "cudaFree")
        assert restorer.plan(300, 400).tiles > 1
        for _ in range(2):
            assert np.array_equal(restorer(image), 255 - image)
        before = len(api.named(*names))
        assert np.array_equal(restorer(image), 255 - image)
        assert before > 0 and len(api.named(*names)) == before


def test_memory_of_a_run_is_not_given_back(trt, api, bundle) -> None:
    backend = opened(bundle)
    backend.run(picture())
    with backend._one_lane():  # the one with buffers
        backend.release()
        assert backend._shared.pool.size == 64 * 64 * 10
        assert backend.held_bytes() == 64 * 64 * 10 + 2 * 64 * 64 * 3
    assert np.array_equal(backend.run(picture()), 255 - picture())
    backend.release()
    assert backend.held_bytes() == 0
    backend.close()


def test_out_of_memory_and_on(trt, api, bundle) -> None:
    backend = opened(bundle)
    api.total = 200_000
    with pytest.raises(OutOfMemoryError, match="cudaErrorMemoryAllocation"):
        backend.run(picture(256, 256))
    assert np.array_equal(backend.run(picture()), 255 - picture())
    trt.engines[0].failing = "Cuda Runtime (out of memory)"
    with pytest.raises(OutOfMemoryError):
        backend.run(picture(64, 65))
    trt.engines[0].failing = "illegal instruction"
    with pytest.raises(BackendError, match="the engine failed: illegal instruction"):
        backend.run(picture(64, 66))
    trt.engines[0].failing = ""
    assert np.array_equal(backend.run(picture(64, 66)), 255 - picture(64, 66))
    backend.close()


@pytest.mark.parametrize("name", ["cudaHostAlloc", "cudaMalloc"])
def test_buffers_that_are_refused_once(trt, api, bundle, monkeypatch, name: str) -> None:
    backend = opened(bundle, stream=9)
    backend.run(picture())
    with monkeypatch.context() as patch, pytest.raises(OutOfMemoryError):
        patch.setattr(api, name, lambda *_: (ERRORS.cudaErrorMemoryAllocation, None), False)
        backend.run(picture(96, 96))
    for _ in range(2):
        assert np.array_equal(backend.run(picture(96, 96)), 255 - picture(96, 96))
    backend.close()


def test_no_memory_size_is_an_error_unless_nothing_is_needed(trt, bundle, monkeypatch) -> None:
    backend = opened(bundle)
    trt.engines[0].bytes_per_pixel = 0
    with pytest.raises(BackendError, match=r"no memory size is known for shape \(1, 64, 64, 3\)"):
        backend.run(picture())
    figure = "get_device_memory_size_for_profile_v2"
    monkeypatch.setattr(fake_tensorrt.FakeEngine, figure, lambda *_: 0)
    assert np.array_equal(backend.run(picture()), 255 - picture())
    backend.close()


def test_one_engine_with_other_choices_for_the_runtime(trt, bundle) -> None:
    """As profiling a layer does, which wants no graphs, while the engine is in use with them."""
    entry = entry_of(bundle, "tensorrt-rtx")
    without = replace(entry, runtime={**entry.runtime, "cuda_graphs": "off"})
    backends = [TensorRtBackend(bundle, one, open_cuda()) for one in (entry, without, entry)]
    assert [engine.configs[0].cuda_graph_strategy for engine in trt.engines] == ["whole", "no"]
    for backend in backends:
        backend.close()


def test_runs_leave_nothing_behind(trt, bundle) -> None:
    """The bindings keep a reference for each time that a recorder is set."""
    backend = opened(bundle, "tensorrt-rtx")
    backend.run(picture())
    (context,) = trt.engines[0].contexts
    before = len(context.recorders)
    for _ in range(9):
        backend.run(picture())
    assert len(context.recorders) == before
    backend.close()


def test_a_context_that_cannot_be_made(trt, bundle) -> None:
    backend = opened(bundle)
    trt.engines[0].failing = "no context"
    with pytest.raises(BackendError, match=r"context could be made: no context \(UNSPECIFIED"):
        backend.run(picture())
    backend.close()


def test_many_threads(trt, bundle) -> None:
    backend = opened(bundle)
    done: list[bool] = []

    def work(seed: int) -> None:
        for width in (64, 80, 64):
            image = picture(64, width, seed)
            done.append(np.array_equal(backend.run(image), 255 - image))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 18 and len(trt.engines[0].contexts) <= LANES * 2
    backend.close()


def test_closed(trt, api, bundle) -> None:
    backend = opened(bundle)
    backend.run(picture())
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="is closed"):
        backend.run(picture())
    assert not api.blocks and not tensorrt_engines._shared


@pytest.mark.parametrize(
    "image, why",
    [
        (np.zeros((1, 64, 64, 3), np.float32), "takes uint8"),
        (np.zeros((64, 64, 3), np.uint8), "takes uint8"),
        (np.zeros((1, 3, 64, 64), np.uint8), "takes uint8"),
        (np.zeros((1, 300, 64, 3), np.uint8), "300x64 | no profile"),
        (np.zeros((2, 64, 64, 3), np.uint8), "2 of 64x64 | no profile"),
    ],
)
def test_what_it_does_not_take(trt, bundle, image, why: str) -> None:
    backend = opened(bundle)
    with pytest.raises(BackendError, match=re.escape(why)):
        backend.run(image)
    backend.close()


# ------------------------------------------------------------------ loading


def test_the_hash_comes_first(trt, bundle) -> None:
    entry = entry_of(bundle)
    (bundle.path / entry.file).write_bytes(b"evil")
    with pytest.raises(BundleError, match="has changed since it was built"):
        TensorRtBackend(bundle, entry, open_cuda())
    assert not trt.engines


def test_reasons_against_an_engine(trt, bundle, monkeypatch) -> None:
    moon = Validity(["built on the moon"])
    monkeypatch.setattr(tensorrt_engines, "validity_of", lambda *_: moon)
    with pytest.raises(BackendError, match=r"x\.engine does not run here: built on the moon"):
        opened(bundle)
    bundle.manifest.files["fp16.weights"]["sha256"] = "0" * 64
    entry = replace(entry_of(bundle), made_of={**entry_of(bundle).made_of, "weights": "1" * 64})
    with pytest.raises(BackendError, match="weights changed since the build.*; built on the moon"):
        TensorRtBackend(bundle, entry, open_cuda())
    assert not trt.engines


def test_an_engine_that_cannot_be_loaded(trt, api, bundle) -> None:
    trt.refuses = "wrong magic tag"
    with pytest.raises(BackendError, match=r"cannot be loaded: wrong magic tag"):
        opened(bundle)
    trt.refuses = "Requested amount of GPU memory (9 bytes) could not be allocated"
    with pytest.raises(OutOfMemoryError):
        opened(bundle)
    trt.refuses, trt.names = "", ["input", "output"]
    with pytest.raises(BackendError, match=r"has the tensors \['input', 'output'\]"):
        opened(bundle)


def test_stripped_engines_are_refitted_with_checked_weights(trt, bundle, monkeypatch) -> None:
    refitted = []
    monkeypatch.setattr(tensorrt_engines, "refit_from_graph", lambda *a: refitted.append(a))
    entry = entry_of(bundle, stripped=True)
    backend = TensorRtBackend(bundle, entry, open_cuda())
    assert refitted[0][1] == trt.engines[0] and refitted[0][2].name == "fp16.image.onnx"
    backend.close()
    with (bundle.path / "fp16.weights").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"fp16\.weights' has changed"):
        TensorRtBackend(bundle, entry, open_cuda())


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["tensorrt-rtx", "tensorrt"])
def test_on_a_gpu(bundle, library: str) -> None:
    """Against ONNX Runtime on the CPU: sizes, repeats (graphs), device arrays, the kept kernels."""
    need_gpus(1, library)
    from maxim_deploy.engines.store import add_engine
    from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu

    asked = settings("64x64:96x128:256x256", "96x128", library=library)
    entry, _ = add_engine(bundle.path, asked)
    reference, cuda = OnnxRuntimeCpu(bundle.path / "fp16.image.onnx"), open_cuda()
    backend = TensorRtBackend(bundle, entry, cuda)
    for height, width in [(64, 64), (96, 128), (255, 256), (64, 64), (64, 64), (64, 64)]:
        image = picture(height, width, height)
        difference = backend.run(image).astype(int) - reference.run(image)
        assert np.abs(difference).max() <= 1
    array = backend.run_on_device(on_device(cuda, picture()))
    assert np.abs(fetched(cuda, array).astype(int) - reference.run(picture())).max() <= 1
    with pytest.raises(OutOfMemoryError):
        backend._shared.pool.reserve(cuda.memory()[1] * 2, cuda.stream())
    assert np.abs(backend.run(picture()).astype(int) - reference.run(picture())).max() <= 1
    free = cuda.memory()[0]
    backend.release()
    assert backend.held_bytes() == 0 and cuda.memory()[0] > free
    for _ in range(3):
        assert np.abs(backend.run(picture()).astype(int) - reference.run(picture())).max() <= 1
    backend.close()
    if library == "tensorrt-rtx":
        assert list((bundle.path / "engines" / "runtime-cache").glob("*.cache"))
