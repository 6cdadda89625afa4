"""A bundle that gives back its picture, backends on it, and TensorRT without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import write_identity_bundle
from engines.bundles import entry_of, tiny_graph, write_bundle
from gpus import L4

from maxim_deploy.accept.step import Setting
from maxim_deploy.engines.validity import Validity
from maxim_deploy.runtime import registry
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.profiles import profiles_from_specs


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_identity_bundle(tmp_path / "bundle")


@pytest.fixture
def on(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Setting]:
    """A setting with a backend of this opener."""
    monkeypatch.setattr(registry, "_registered", {})

    def setting(opener: Any, **facts: Any) -> Setting:
        registry._registered.clear()
        registry.register_backend("fake", opener, **facts)
        return Setting(str(bundle), "fake")

    return setting


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    """CUDA without a GPU. Page-locked memory is not the device's."""
    pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")
    from runtime.cuda.fakes import FakeRuntime

    from maxim_deploy.runtime.cuda import cuda_bindings

    fake = FakeRuntime(total=256 << 20)
    pinned: set[int] = set()
    locked, used = fake._cudaHostAlloc, fake.used

    def lock(size: int, flags: int) -> tuple[int]:
        (address,) = locked(size, flags)
        pinned.add(address)
        return (address,)

    fake._cudaHostAlloc = lock
    fake.used = lambda: (
        used() - sum(size for address, (_, size) in fake.blocks.items() if address in pinned)  # type: ignore[has-type, misc]
    )
    monkeypatch.setattr(cuda_bindings, "require", lambda *_: fake)
    return fake


@pytest.fixture
def trt(api: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Either library of TensorRT, with engines that invert."""
    from runtime import fake_tensorrt

    from maxim_deploy.runtime import request, tensorrt_engines

    module = fake_tensorrt.fake_module(api)
    largest = 1088 * 1920 * fake_tensorrt.BYTES_PER_PIXEL
    monkeypatch.setattr(
        fake_tensorrt.FakeEngine, "get_device_memory_size_for_profile_v2", lambda *_: largest
    )
    monkeypatch.setattr(tensorrt_engines, "load_library", lambda _: module)
    monkeypatch.setattr(tensorrt_engines, "validity_of", lambda *_: Validity())
    for room in (tensorrt_engines, request):
        monkeypatch.setattr(room, "find_gpu", lambda device=0: L4)
    return module


@pytest.fixture
def with_engine(tmp_path: Path) -> Callable[[str], Setting]:
    """A setting with an engine of a library, which is none: the fakes invert."""

    def setting(library: str) -> Setting:
        bundle = Bundle.open(write_bundle(tmp_path / library, tiny_graph()))
        profiles = profiles_from_specs(["64x64:256x256:1088x1920"], "image")
        entry = entry_of(bundle, library, profiles=profiles)
        Bundle(bundle.path, replace(bundle.manifest, engines=[entry])).write()
        return Setting(str(bundle.path), library)

    return setting
