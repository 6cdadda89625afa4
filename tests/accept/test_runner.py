"""The runner: every ending of a step is an outcome, and none stops the others."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gpus import L4

from maxim_deploy.accept import child, runner
from maxim_deploy.accept.models import Model
from maxim_deploy.accept.plan import STEPS, Step
from maxim_deploy.accept.record import FAILED, NOT_RUN, PASSED, Record
from maxim_deploy.accept.runner import EXPORT, Machine, accept, machine_at_hand, run_step
from maxim_deploy.accept.step import Setting
from maxim_deploy.errors import ExportError, MissingDependencyError
from maxim_deploy.runtime.registry import BACKENDS, backend_named
from maxim_deploy.runtime.verdict import Verdict

MODULE = "accept.steps_of_a_test"
SETTING = Setting("a bundle", "onnxruntime")


def ran(function: str, setting: Setting = SETTING, limit_s: float = 60) -> tuple[str, str, Any]:
    result = run_step(f"{MODULE}:{function}", setting, limit_s)
    return result["outcome"], result["reason"], result["numbers"]


def test_a_step_that_passes() -> None:
    numbers = {"backend": "onnxruntime", "share": 0.1235, "infinite_db": None}
    assert ran("passes") == (PASSED, None, numbers)


@pytest.mark.parametrize(
    "function, outcome, reason",
    [
        ("finds_a_fault", FAILED, "lanes | differ"),
        ("cannot_run", NOT_RUN, "this PyTorch has no CUDA here"),
        ("lacks_a_library", NOT_RUN, "torch is not installed; run: pip install torch"),
        ("raises_ours", FAILED, "engine x.engine does not run here"),
        ("raises_anything", FAILED, "ZeroDivisionError: by zero"),
        ("is_killed", FAILED, "its process was killed by SIGSEGV: CUDA error 700 in driver.so"),
        ("exits", FAILED, "its process ended with exit code 3: without output"),
        ("exits_as_if_well", FAILED, "its process ended with exit code 0: without output"),
        (
            "is_killed_at_its_end",
            FAILED,
            "its process was killed by SIGSEGV after its answer: without output",
        ),
    ],
)
def test_how_a_step_ends(function: str, outcome: str, reason: str) -> None:
    found = ran(function)
    assert found[:2] == (outcome, reason)
    assert found[2] == ({"differing": 3} if function == "finds_a_fault" else {})


def test_a_library_that_is_not_installed(monkeypatch) -> None:
    from accept import steps_of_a_test

    error = ModuleNotFoundError("No module named 'pycuda'", name="pycuda")
    monkeypatch.setattr(steps_of_a_test, "lacks_a_module", lambda _: _raise(error))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = child.result_of(lambda: child.called(f"{MODULE}:lacks_a_module", SETTING))
    assert result["outcome"] == NOT_RUN and "maxim-deploy[pycuda]" in result["reason"]


def _raise(error: Exception) -> None:
    raise error


def test_a_step_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    outcome, reason, _ = ran("hangs", Setting(str(pid), "onnxruntime"), limit_s=3)
    assert (outcome, reason) == (FAILED, "no answer within 3 s")
    assert not _lives(int(pid.read_text()))


def _lives(pid: int) -> bool:
    """Whether a process is there, other than as a zombie that nobody has buried."""
    status = Path(f"/proc/{pid}/status")
    for _ in range(50):
        if not status.exists() or "\nState:\tZ" in status.read_text():
            return False
        time.sleep(0.1)
    return True


def test_ctrl_c_ends_the_step(tmp_path: Path, monkeypatch) -> None:
    pid = tmp_path / "pid"
    plain = subprocess.Popen.communicate

    def interrupted(self, *args: object, timeout: float | None = None):
        if timeout == 61:
            while not pid.exists() or not pid.read_text():
                time.sleep(0.05)
            raise KeyboardInterrupt
        return plain(self, *args, timeout=timeout)  # type: ignore[misc]

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ran("hangs", Setting(str(pid), "onnxruntime"), limit_s=61)
    assert not _lives(int(pid.read_text()))


# ------------------------------------------------------------------ what is missing


def verdicts(**changes: Verdict) -> dict[str, Verdict]:
    found = {spec.name: Verdict(spec.name, works=True) for spec in BACKENDS}
    for name in ("tensorrt", "tensorrt-rtx"):
        found[name].builds_engines = True
    return found | {name.replace("_", "-"): verdict for name, verdict in changes.items()}


def step(name: str) -> Step:
    return next(one for one in STEPS if one.name == name)


def test_what_a_machine_lacks() -> None:
    pip = Verdict("tensorrt", reason="tensorrt is not installed", install="pip install it")
    rtx = Verdict("tensorrt-rtx", reason="there is no NVIDIA GPU", builds_engines=True)
    here = Machine(verdicts(tensorrt=pip, tensorrt_rtx=rtx), gpus=0)
    full, portable, cpu = map(backend_named, ("tensorrt", "tensorrt-rtx", "onnxruntime"))
    assert here.lacks(step("load"), full) == "tensorrt is not installed; run: pip install it"
    assert here.lacks(step("build"), portable) is None
    assert "there is no NVIDIA GPU" in str(here.lacks(step("load"), portable))
    assert here.lacks(step("load"), cpu) is None
    pip.install = None
    pip.builds_engines = False
    assert here.lacks(step("build"), full) == "tensorrt is not installed"


def test_a_library_that_is_there_and_does_not_work_is_to_fail() -> None:
    wrong = Verdict("tensorrt", reason="it computes a wrong result", builds_engines=False)
    here = Machine(verdicts(tensorrt=wrong), gpus=1)
    for name in ("build", "load"):
        assert here.lacks(step(name), backend_named("tensorrt")) is None


def test_a_second_gpu_is_needed_by_one_step() -> None:
    spec = backend_named("tensorrt")
    for gpus in (1, 2):
        lacks = [
            one.name
            for one in STEPS
            if one.takes(spec) and Machine(verdicts(), gpus).lacks(one, spec)
        ]
        assert lacks == (["second-gpu"] if gpus == 1 else [])
    assert "this machine has 1 GPU | the step needs 2" in str(
        Machine(verdicts(), 1).lacks(step("second-gpu"), spec)
    )


def test_the_machine_at_hand(monkeypatch) -> None:
    monkeypatch.setattr(runner, "find_gpu", lambda device: L4 if device < 2 else None)
    monkeypatch.setattr(runner, "verdict_from_process", lambda name: Verdict(name, works=True))
    found = machine_at_hand()
    assert found.gpus == 2 and list(found.verdicts) == [spec.name for spec in BACKENDS]


# ------------------------------------------------------------------ all of them


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What steps result in, by function; those that were run, in order, are in `calls`."""
    found: dict[str, Any] = {"calls": []}
    passed = {"outcome": PASSED, "reason": None, "numbers": {}}

    def run(function: str, setting: Setting, limit_s: float) -> dict[str, Any]:
        assert Path(setting.bundle, "manifest.json").exists()
        name = function.rpartition(":")[2]
        found["calls"].append((setting.backend, name))
        found["limit_s"] = limit_s
        return found.get(name, passed)

    monkeypatch.setattr(runner, "run_step", run)
    return found


def recorded(models: list[Model], gpus: int = 0, **options: Any) -> Record:
    machine = Machine(verdicts(), gpus)
    return accept(models, machine, **{"limit_s": 100.0, **options})


def test_a_failure_stops_nothing(bundle, results) -> None:
    results["load_and_run"] = {"outcome": FAILED, "reason": "no", "numbers": {"load_s": 1.0}}
    records: list[Record] = []
    record = recorded([Model("tiny", lambda: bundle)], tell=records.append)
    told = [one.outcomes[-1] for one in records]
    assert record.counts()[FAILED] == 3  # OpenVINO and ONNX Runtime on the CPU, and PyTorch
    assert record.outcomes == told and told[0].step == EXPORT and records[-1] == record
    assert results["calls"][-1] == ("torch", "kill_and_start_again")
    (failed, *_) = [one for one in told if one.outcome == FAILED]
    assert (failed.reason, failed.numbers) == ("no", {"load_s": 1.0})
    assert "host" not in record.environment and record.gpus == 0


def test_every_step_has_an_outcome_on_every_backend(bundle, results) -> None:
    record = recorded([Model("tiny", lambda: bundle)])
    found = [(one.backend, one.step) for one in record.outcomes if one.step != EXPORT]
    assert found == [(s.name, one.name) for s in BACKENDS for one in STEPS if one.takes(s)]


def test_a_model_that_cannot_be_made_does_not_stop_the_next(bundle, results) -> None:
    def refuse() -> Path:
        raise ExportError("the graph differs")

    def lack() -> Path:
        raise MissingDependencyError("torch is not installed")

    models = [Model("a", refuse), Model("b", lack), Model("c", lambda: bundle)]
    record = recorded(models, only=["load"])
    made = [(one.model, one.outcome) for one in record.outcomes if one.step == EXPORT]
    assert made == [("a", FAILED), ("b", NOT_RUN), ("c", PASSED)]
    assert {one.model for one in record.outcomes if one.step == "load"} == {"c"}


def test_steps_that_were_asked_for(bundle, results) -> None:
    recorded([Model("tiny", lambda: bundle)], only=["close", "load"])
    assert results["calls"] == [
        (backend, name)
        for backend in ("openvino", "onnxruntime", "torch")
        for name in ("load_and_run", "close_at_once")
    ]


def test_a_large_model_has_the_short_steps_alone(bundle, results) -> None:
    record = recorded([Model("large", lambda: bundle, is_large=True)])
    left_out = {one.name for one in STEPS} - {one.step for one in record.outcomes}
    assert left_out == {one.name for one in STEPS if not one.is_short} and "tiles" in left_out


def test_no_time_is_left(bundle, results) -> None:
    record = recorded([Model("tiny", lambda: bundle)], limit_s=0.0)
    reasons = {one.reason for one in record.outcomes if one.backend == "onnxruntime"}
    assert reasons == {runner.TIME_IS_UP} and results["calls"] == []
    assert record.counts()[FAILED] == 0


def test_a_step_that_the_time_limit_ends_says_nothing_about_itself(
    bundle, results, monkeypatch
) -> None:
    """As it is killed when the time of the whole is up, and not its own."""
    results["load_and_run"] = {"outcome": FAILED, "reason": "gave no answer", "numbers": {}}
    clock = iter([0.0] * 10 + [90.0, 90.0, 100.5] + [101.0] * 99)
    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    record = recorded([Model("tiny", lambda: bundle)], only=["load"])
    (first,) = [one for one in record.outcomes if one.backend == "onnxruntime"]
    assert (first.outcome, first.reason) == (NOT_RUN, runner.TIME_IS_UP)
    assert results["limit_s"] == 10


def test_an_engine_is_needed(bundle, results, with_engine) -> None:
    record = recorded([Model("tiny", lambda: bundle)], gpus=1, only=["load", "refit"])
    of_rtx = {one.step: one for one in record.outcomes if one.backend == "tensorrt-rtx"}
    assert "no engine of tensorrt-rtx, because the step `build` made none" in of_rtx["load"].reason
    assert of_rtx["refit"].outcome == PASSED
    built = Path(with_engine("tensorrt-rtx").bundle)
    record = recorded([Model("tiny", lambda: built)], gpus=1, only=["load"])
    passed = [one.backend for one in record.outcomes if one.outcome == PASSED]
    assert "tensorrt-rtx" in passed and "tensorrt" not in passed


def test_the_bundle_stays_as_it_is(bundle, monkeypatch) -> None:
    def spoil(function: str, setting: Setting, limit_s: float) -> dict[str, Any]:
        Path(setting.bundle, "manifest.json").write_text("spoiled")
        return {"outcome": PASSED, "reason": None, "numbers": {}}

    before = (bundle / "manifest.json").read_text()
    monkeypatch.setattr(runner, "run_step", spoil)
    recorded([Model("tiny", lambda: bundle)], only=["close"])
    assert (bundle / "manifest.json").read_text() == before


def test_a_spoiled_copy_is_a_reason(with_engine, results, monkeypatch) -> None:
    def spoil(function: str, setting: Setting, limit_s: float) -> dict[str, Any]:
        Path(setting.bundle, "manifest.json").write_text("spoiled")
        return {"outcome": PASSED, "reason": None, "numbers": {}}

    built = Path(with_engine("tensorrt-rtx").bundle)
    monkeypatch.setattr(runner, "run_step", spoil)
    record = recorded([Model("tiny", lambda: built)], gpus=1, only=["load", "close"])
    of_rtx = {one.step: one for one in record.outcomes if one.backend == "tensorrt-rtx"}
    assert of_rtx["load"].outcome == PASSED and of_rtx["close"].outcome == NOT_RUN
    assert "manifest" in of_rtx["close"].reason and record.outcomes[-1].backend == "torch"


def test_steps_run_for_real(bundle) -> None:
    machine = Machine(verdicts(torch=Verdict("torch", reason="gone", install="pip")), 0)
    record = accept([Model("tiny", lambda: bundle)], machine, only=["load", "lanes"], limit_s=60)
    ran = [one for one in record.outcomes if one.backend == "onnxruntime"]
    assert [(one.step, one.outcome) for one in ran] == [("load", PASSED), ("lanes", PASSED)]
    assert ran[0].numbers["device"] == "cpu" and ran[0].seconds > 0
    assert os.sep not in replace(record, environment={}).to_json().replace("\\n", "")
