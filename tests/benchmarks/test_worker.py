from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graph.small_graphs import node, write

from maxim_deploy.benchmarks import worker_main
from maxim_deploy.benchmarks.worker import Worker
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.errors import BackendError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def workload(graph: Path, **changes: object) -> Workload:
    return Workload("onnxruntime", str(graph), (64, 128), threads=1, **changes)


def negation(folder: Path) -> Path:
    return write(folder / "fp32.tensor.onnx", node("Neg", "image", "restored"))


def test_a_worker_runs_saves_and_reports(tmp_path: Path) -> None:
    with Worker(workload(negation(tmp_path))) as worker:
        assert worker.loaded["library"].startswith("onnxruntime ")
        assert (worker.loaded["device"], worker.loaded["io"]) == ("cpu", "tensor")
        assert worker.loaded["load_s"] > 0
        assert worker.brackets == ["network"]
        first = worker.first()
        worker.save(tmp_path / "result.npy")
        assert worker.warm_up("network", 5).runs >= 2
        turn = worker.turn("network", 0.05)
        assert sum(one.wall_ms for one in turn) >= 50 and len(turn) > 1
        assert worker.idle_cpu_s < 10
    assert 0 < first["first_call_ms"] < 10_000
    assert 10_000_000 < worker.loaded["baseline_bytes"] <= first["run_peak_bytes"]
    assert first["run_peak_bytes"] <= first["peak_bytes"] < 500_000_000
    assert first["device_bytes"] is None
    result = np.load(tmp_path / "result.npy")
    assert result.shape == (1, 64, 128, 3)
    assert -1 <= result.min() < result.max() <= 0


def test_a_worker_that_cannot_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="ONNX Runtime cannot load '.*none.onnx'"):
        Worker(workload(tmp_path / "none.onnx"))


def test_a_worker_that_fails_to_run_says_why_and_goes_on(tmp_path: Path) -> None:
    graph = write(
        tmp_path / "fp32.tensor.onnx",
        node("Reshape", "image side", "restored"),
        side=np.array([1, 3, 7, 7]),
    )
    with Worker(workload(graph)) as worker:
        for _ in range(2):
            with pytest.raises(BackendError, match="failed on an input of 1x3x64x128"):
                worker.first()


def test_a_worker_that_dies_is_missed(tmp_path: Path) -> None:
    with Worker(workload(negation(tmp_path))) as worker:
        os.kill(worker.pid, signal.SIGKILL)  # as the kernel does when memory runs out
        with pytest.raises(BackendError, match="onnxruntime on .* was killed by SIGKILL"):
            worker.first()


def test_ctrl_c_is_left_to_the_parent(tmp_path: Path) -> None:
    with Worker(workload(negation(tmp_path))) as worker:
        os.kill(worker.pid, signal.SIGINT)  # a terminal sends it to the whole group
        assert worker.first()["first_call_ms"] > 0


def test_an_interrupted_parent_does_not_wait_for_its_patience(tmp_path: Path) -> None:
    """Ctrl-C once left a timer behind that the interpreter waited half an hour for."""
    script = (
        "import signal, sys, threading\n"
        "from maxim_deploy.benchmarks.workload import Workload\n"
        "from maxim_deploy.benchmarks.worker import Worker\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "interrupt = lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)\n"
        "with Worker(Workload('onnxruntime', sys.argv[1], (64, 128), threads=1)) as worker:\n"
        "    threading.Timer(0.3, interrupt).start()\n"
        "    worker.turn('network', 60)\n"
    )
    command = [sys.executable, "-c", script, str(negation(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert "KeyboardInterrupt" in done.stderr


def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    with Worker(workload(negation(tmp_path))) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        worker._patience_s = 0.2
        with pytest.raises(BackendError, match="gave no answer within 0 s"):
            worker.first()


def test_a_worker_brings_no_torch_and_no_onnx(tmp_path: Path) -> None:
    """They would be in its memory, and their threads in its time."""
    import subprocess

    code = (
        "import sys, maxim_deploy.benchmarks.worker_main\n"
        "print({'torch', 'onnx', 'matplotlib', 'psutil'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_what_libraries_print_is_no_answer(tmp_path: Path) -> None:
    """The protocol has a pipe of its own; stdout goes to stderr."""
    import subprocess
    from dataclasses import asdict

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "from maxim_deploy.benchmarks import worker_main\n"
            "real = worker_main.runner_of\n"
            "def noisy(workload):\n"
            "    os.system('echo noise')\n"
            "    print('noise', flush=True)\n"
            "    return real(workload)\n"
            "worker_main.runner_of = noisy\n"
            "worker_main.main()",
            json.dumps(asdict(workload(negation(tmp_path)))),
        ],
        input='{"do": "first"}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    facts, first = map(json.loads, done.stdout.splitlines())
    assert facts["device"] == "cpu" and first["first_call_ms"] > 0
    assert done.stderr.count("noise") == 2


def test_an_unexpected_error_belongs_into_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Workload) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(worker_main, "runner_of", broken)
    answers = io.StringIO()
    assert worker_main.serve(workload(tmp_path), io.StringIO(), answers, 0.0) == 1
    assert json.loads(answers.getvalue()) == {"error": "OverflowError: too large"}


def test_a_restorer_under_load(demo_bundle: Path) -> None:
    with Worker(Workload("onnxruntime", str(demo_bundle), (64, 64))) as worker:
        entry = worker.load(mode="closed", callers=2, seconds=0.2)
        assert entry["images_per_s"] > 0 and entry["latency"]["count"] >= 2
