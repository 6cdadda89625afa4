from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.graphs import node, write

from maxim_deploy.benchmarks.worker import Worker
from maxim_deploy.errors import BackendError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def test_a_worker_runs_saves_and_reports(tmp_path: Path) -> None:
    graph = write(tmp_path / "g.onnx", node("Neg", "image", "restored"))
    with Worker("onnxruntime", graph, 1, (64, 128)) as worker:
        assert worker.loaded["library"].startswith("onnxruntime ")
        assert 0 < worker.run() < 10
        assert worker.idle_cpu_s < 10
        worker.save(tmp_path / "result.npy")
        memory = worker.memory()
    result = np.load(tmp_path / "result.npy")
    assert result.shape == (1, 3, 64, 128)
    assert -1 <= result.min() < result.max() <= 0
    assert 10_000_000 < memory["baseline_bytes"] <= memory["peak_bytes"] < 500_000_000


def test_a_worker_that_cannot_load_says_so(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(BackendError, match="onnxruntime on none.onnx ended early with 1"):
        Worker("onnxruntime", tmp_path / "none.onnx", 1, (64, 64))
    assert "ONNX Runtime cannot load" in capfd.readouterr().err


def test_a_worker_that_fails_to_run_says_so(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "g.onnx", node("Reshape", "image side", "restored"), side=np.array([7])
    )
    with (
        pytest.raises(BackendError, match="ended early with 1"),
        Worker("onnxruntime", graph, 1, (64, 64)) as worker,
    ):
        worker.run()
