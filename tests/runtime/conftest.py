"""Fixtures of engines that run on fakes of TensorRT and CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from maxim_deploy.spec.bundle import Bundle


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")
    from runtime.engine_runs import fake_cuda

    return fake_cuda(monkeypatch)


@pytest.fixture
def trt(api, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    from runtime.engine_runs import fake_library

    from maxim_deploy.runtime import tensorrt_engines

    yield fake_library(monkeypatch, api)
    assert not tensorrt_engines._shared, "a test left an engine open"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    from engines.bundles import tiny_graph, write_bundle

    return Bundle.open(write_bundle(tmp_path / "bundle", tiny_graph()))
