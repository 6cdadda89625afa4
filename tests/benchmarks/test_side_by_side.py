from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.fakes import FakeRoofline, FakeWorker
from benchmarks.samples import ENVIRONMENT, TRAFFIC
from gpus import L4
from spec.samples import entry

from maxim_deploy.benchmarks import artifacts, contender, side_by_side, suite_run
from maxim_deploy.benchmarks.contender import LEVEL, Contender
from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.side_by_side import Files, SideBySide
from maxim_deploy.benchmarks.subjects import Subject
from maxim_deploy.benchmarks.suite import SuitePlan
from maxim_deploy.benchmarks.suite_run import SuiteRun, backends_here, named
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.errors import DownloadError, UsageError
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.precision import LOW

TORCH, LITERAL = Subject("torch", is_baseline=True), Subject("literal", is_baseline=True)
OURS, HALF = Subject("onnxruntime"), Subject("onnxruntime", "fp16")


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> type[FakeWorker]:
    monkeypatch.setattr(contender, "Worker", FakeWorker)
    FakeWorker.workloads, FakeWorker.order = [], []
    return FakeWorker


COMMON = {
    "suite": "s", "run": "r", "created": "now", "model": "m", "architecture": "a",
    "environment": ENVIRONMENT,
}  # fmt: skip


def compared(files: dict[Subject, str], **changes: Any) -> list[Record]:
    graph = (Path("g.onnx"), "tensor")
    plan = SuitePlan(backends=("onnxruntime",), rounds=5, least_s=0, pause_s=0, **changes)
    by_subject = {subject: Files(Path(name), graph) for subject, name in files.items()}
    said: list[str] = []
    roofline: Any = FakeRoofline()
    return SideBySide(plan, by_subject, (60, 128), 1, COMMON, roofline, said.append).records()


def test_the_processors_are_looked_at_between_all_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    samples: list[int | None] = []
    monkeypatch.setattr(side_by_side, "handoff_ns", lambda count: samples.append(count) or 90.0)
    plan = SuitePlan(backends=("onnxruntime",), rounds=5, least_s=0, pause_s=0, threads=2)
    files = {OURS: Files(Path("1"))}
    roofline: Any = FakeRoofline()
    one = SideBySide(plan, files, (64, 64), 1, COMMON, roofline, print, lambda ns: (ns - 10, ns))
    (found,) = one.records()
    assert samples == [2] * 5 * 2  # rounds and brackets
    assert found.handoff_ns == 90 and found.noise is not None
    assert found.noise["handoff_before_ns"] == (80, 90)


def test_a_record_has_everything() -> None:
    torch, ours = compared({TORCH: "0.5", OURS: "0.50001"}, concurrency=(2,))
    assert (torch.subject, torch.runner, torch.device) == ("torch", "torch", "cpu")
    assert set(ours.timings) == {"network", "image"}
    network = ours.timings["network"]
    assert network["rounds_ms"] == [[10.0, 12.0]] * 5
    assert network["wall"]["count"] == 10 and network["wall"]["p50_ms"] == 11
    assert (network["gpu"], network["warmup_runs"], network["stable"]) == (None, 2, True)
    assert network["images_per_s"] == pytest.approx(1000 / 11)
    assert ours.start == {"load_s": 0.5, "first_call_ms": 30.0}
    assert ours.memory == {
        "size": [64, 128], "baseline_bytes": 1000, "peak_bytes": 90_000,
        "bytes_per_pixel": 5.0, "device_bytes": None,
    }  # fmt: skip
    assert ours.graph == {"nodes": 7}
    assert ours.cost is not None
    assert (ours.cost["pixels"], ours.cost["device"], ours.cost["p50_ms"]) == (64 * 128, "cpu", 11)
    assert ours.agreement == {
        "with": "torch", "precision": "fp32", "max_error": pytest.approx(1e-5, rel=0.01),
        "allowed": 1e-4,
    }  # fmt: skip
    assert ours.noise is not None and ours.noise["spread"] == 0
    assert "image did not become stable while it was warmed up" in ours.warnings
    assert [(entry["mode"], entry["callers"], entry["rate"]) for entry in ours.load] == [
        ("closed", 2, None), ("open", 2, 50.0), ("open", 2, 80.0),
    ]  # fmt: skip
    assert ours.error is None


def test_all_take_turns_in_every_bracket(workers: type[FakeWorker]) -> None:
    compared({TORCH: "1", OURS: "1.0"})
    first = [("1", "network"), ("1", "image"), ("1.0", "network"), ("1.0", "image")]
    assert workers.order == first + first[::-1] + first + first[::-1] + first


def test_only_the_brackets_that_are_asked_for() -> None:
    (ours,) = compared({OURS: "1"}, brackets=("network",), concurrency=(1,))
    assert set(ours.timings) == {"network"} and ours.load == []


@pytest.mark.parametrize("work", ["first", "warm_up", "turn"])
def test_one_that_fails_does_not_stop_the_others(work: str) -> None:
    torch, literal, ours = compared(
        {TORCH: "none", LITERAL: f"1 after {work}", OURS: "1"}, concurrency=(1,)
    )
    assert (torch.error, torch.timings) == ("there is none", {})
    assert (literal.error, literal.timings) == (f"broke in {work}", {})
    assert ours.error is None and len(ours.timings["network"]["rounds_ms"]) == 5
    assert ours.agreement is not None
    first = "onnxruntime" if work == "first" else "literal"  # the first that runs
    assert ours.agreement["with"] == first


def test_what_was_timed_outlives_a_failure_under_load() -> None:
    (ours,) = compared({OURS: "1 after load"}, concurrency=(1, 8))
    assert ours.error is None and len(ours.timings["network"]["rounds_ms"]) == 5
    assert ours.load == [] and ours.load_error == "1 callers: broke in load"
    assert ours.failures == ["1 callers: broke in load"]


def test_load_is_of_one_picture_and_so_of_the_first_batch_only() -> None:
    (ours,) = compared({OURS: "1"}, concurrency=(1,), batches=(4, 1))
    assert ours.load == []  # a comparison of one picture
    (ours,) = compared({OURS: "1"}, concurrency=(1,), batches=(1, 4))
    assert len(ours.load) == 3


def test_all_may_fail() -> None:
    (torch,) = compared({TORCH: "none"})
    assert torch.error == "there is none"


@pytest.mark.parametrize("value", ["0.501", "nan"])
def test_subjects_that_disagree_are_not_compared(value: str) -> None:
    literal, ours = compared({LITERAL: "0.5", OURS: value})
    assert literal.error is None
    assert ours.error is not None
    assert "onnxruntime differs from literal by " in ours.error
    assert "expected at most 0.0001" in ours.error
    assert ours.timings == {} and ours.agreement is not None
    assert "NaN" not in json.dumps(ours.agreement)


def test_low_precision_and_8_bits_may_differ_by_their_rounding(
    workers: type[FakeWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, half = compared({LITERAL: "0.5", HALF: "0.51"})
    assert half.error is None and half.agreement is not None
    assert half.agreement["allowed"] == LOW["fp16"].benchmark_error
    levels = Contender(OURS)
    levels.start(Workload("onnxruntime", "1.2", (2, 2)), ExitStack())
    levels.worker.loaded["io"] = "image"  # type: ignore[union-attr]
    other = Contender(LITERAL)
    other.start(Workload("onnxruntime", "1.0", (2, 2)), ExitStack())
    own, its = np.full((1, 2, 2, 3), 1.2, np.float32), np.ones((1, 2, 2, 3), np.float32)
    levels.agree(its, other, own)  # the float result is clipped as the other is
    assert levels.error is None and levels.agreement is not None
    assert levels.agreement["allowed"] == pytest.approx(1e-4 + LEVEL)


def test_an_engine_has_the_bound_of_its_own_traffic() -> None:
    engine, size = Subject("tensorrt", "fp16"), (60, 128)
    wanted = {"library": "tensorrt", "precision": "fp16", "io": "tensor"}
    engines = [
        entry(name, profile, **wanted, built=EngineRecord(traffic=[traffic]))
        for name, profile, traffic in (
            ("a", "64x128", TRAFFIC),
            ("b", "512x512", replace(TRAFFIC, bytes_per_pixel=1.0)),
        )
    ]
    plan = SuitePlan(backends=("tensorrt",), rounds=5, least_s=0, pause_s=0)
    roofline: Any = FakeRoofline()

    def bound(engines: list[EngineEntry]) -> dict[str, Any] | None:
        files = {engine: Files(Path("1"), (Path("g.onnx"), "tensor"), engines=engines)}
        (found,) = SideBySide(plan, files, size, 1, COMMON, roofline, print).records()
        return found.bound

    assert bound(engines) == {
        "shape": "64x128", "bytes_per_pixel": 70.0, "device": "cpu", "precision": "fp16",
        "took_ms": 11,
    }  # fmt: skip
    assert bound(engines[1:]) is None  # no engine takes the size
    assert bound([replace(engines[0], built=EngineRecord())]) is None


def test_what_the_gpu_runs(workers: type[FakeWorker]) -> None:
    plan = SuitePlan(backends=("tensorrt", "onnxruntime"), threads=3)
    files = {LITERAL: Files(Path("1")), Subject("tensorrt"): Files(Path("1")), OURS: Files()}
    roofline: Any = FakeRoofline()
    one = SideBySide(plan, files, (64, 64), 2, {}, roofline, print)
    workloads = [one._workload(subject, Path("1")) for subject in files]
    assert [(workload.runner, workload.on_gpu) for workload in workloads] == [
        ("onnxruntime-cuda", True), ("tensorrt", True), ("onnxruntime", False),
    ]  # fmt: skip
    assert {(workload.threads, workload.batch) for workload in workloads} == {(3, 2)}


# ------------------------------------------------------------------ runs


def run_of(plan: SuitePlan, bundles: dict[str, Bundle], said: list[str] | None = None) -> SuiteRun:
    progress = (said if said is not None else []).append
    return SuiteRun("p", plan, bundles, Path("/nowhere"), progress, ENVIRONMENT, "call")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[SideBySide]:
    """The comparisons that a run makes, which are not carried out."""
    found: list[SideBySide] = []
    monkeypatch.setattr(side_by_side.SideBySide, "records", lambda self: found.append(self) or [])
    return found


def test_every_model_size_and_batch(seen: list[SideBySide], tiny_bundle: Bundle) -> None:
    plan = SuitePlan(backends=("onnxruntime",), sizes=((64, 64), (64, 128)), batches=(1, 2))
    list(run_of(plan, {"a": tiny_bundle, "b": tiny_bundle}).records())
    assert [(one.common["model"], one.size, one.batch) for one in seen] == [
        (model, size, batch) for model in "ab" for size in plan.sizes for batch in plan.batches
    ]
    assert len({one.common["run"] for one in seen}) == 1
    assert seen[0].common["environment"]["cpus"]


def test_precisions_are_those_of_the_bundle_unless_asked_for(
    seen: list[SideBySide], demo_bundle: Path
) -> None:
    bundles = {"demo": Bundle.open(demo_bundle)}
    list(run_of(SuitePlan(backends=("onnxruntime",), precisions=()), bundles).records())
    assert [str(subject) for subject in seen[0].files] == ["onnxruntime", "onnxruntime fp16"]
    assert seen[0].files[HALF].graph == (demo_bundle / "fp16.tensor.onnx", "tensor")
    list(run_of(SuitePlan(backends=("onnxruntime",), precisions=("fp16",)), bundles).records())
    assert [str(subject) for subject in seen[1].files] == ["onnxruntime fp16"]


def test_a_baseline_without_weights_has_a_reason(seen: list[SideBySide], demo_bundle: Path) -> None:
    from dataclasses import replace

    bundle = Bundle.open(demo_bundle)
    without = Bundle(bundle.path, replace(bundle.manifest, source=None))
    list(run_of(SuitePlan(baselines=(TORCH,), precisions=()), {"demo": without}).records())
    assert "--no-source" in str(seen[0].files[TORCH].error)
    list(run_of(SuitePlan(baselines=(TORCH,), precisions=()), {"demo": bundle}).records())
    assert seen[1].files[TORCH] == Files(demo_bundle)


@pytest.mark.parametrize("lists_layers", [True, False])
def test_an_engine_is_counted_and_measured_all_the_same(
    seen: list[SideBySide], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists_layers: bool
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    from engines.bundles import tiny_graph, write_bundle

    from maxim_deploy.engines import fixed_builds

    bundle = Bundle.open(write_bundle(tmp_path / "bundle", tiny_graph()))
    monkeypatch.setattr(suite_run, "find_gpu", lambda: L4)
    monkeypatch.setattr(SuiteRun, "_made", lambda self, model: bundle)
    if not lists_layers:
        monkeypatch.setattr(fixed_builds, "layers_from_log", lambda messages: [])
    engine, said = Subject("tensorrt-rtx", "fp16"), []
    sizes = ((64, 64), (64, 128))
    plan = SuitePlan(("S-1",), backends=(engine.name,), precisions=("fp16",), sizes=sizes)
    list(run_of(plan, {}, said).records())
    (entry,) = seen[0].files[engine].engines
    assert (entry.traffic_of(1) is not None) == lists_layers
    assert any("the engine's traffic is unknown" in line for line in said) != lists_layers


def test_without_the_exporter_the_pip_line_is_in_the_records(
    seen: list[SideBySide], tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    plan = SuitePlan(models=("S-1",), baselines=(LITERAL,), backends=("onnxruntime",))
    (records,) = run_of(plan, {}).records()
    pip_line = "torch is not installed; run: pip install 'maxim-deploy[export]'"
    assert [one.error for one in records] == [pip_line] * 2
    list(run_of(plan, {"tiny": tiny_bundle}).records())
    assert seen[0].files[LITERAL].error == pip_line


def test_a_model_that_cannot_be_made_is_in_the_records(
    seen: list[SideBySide], monkeypatch: pytest.MonkeyPatch
) -> None:

    def unreachable(*_: object) -> Bundle:
        raise DownloadError("no answer from the bucket")

    monkeypatch.setattr(artifacts, "model_bundle", unreachable)
    plan = SuitePlan(models=("deblurring-gopro",), baselines=(TORCH,), backends=("onnxruntime",))
    (records,) = run_of(plan, {}).records()
    assert [(one.label, one.error) for one in records] == [
        ("torch", "no answer from the bucket"), ("onnxruntime", "no answer from the bucket"),
    ]  # fmt: skip


def test_engines_are_built_for_models_of_a_suite(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle, seen: list[SideBySide]
) -> None:
    from maxim_deploy.engines import store

    built = []
    monkeypatch.setattr(artifacts, "model_bundle", lambda *_: tiny_bundle)
    monkeypatch.setattr(store, "add_engine", lambda path, asked, _: built.append(asked))
    plan = SuitePlan(models=("S-1",), backends=("tensorrt-rtx",), precisions=("fp16",))
    engine = Subject("tensorrt-rtx", "fp16")
    monkeypatch.setattr(suite_run, "find_gpu", lambda: None)
    list(run_of(plan, {}).records())
    assert seen[0].files[engine].error.startswith("there is no NVIDIA GPU 0")
    assert not built

    monkeypatch.setattr(suite_run, "find_gpu", lambda: "some GPU")
    list(run_of(plan, {}).records())
    assert seen[1].files[engine].file == tiny_bundle.path
    asked, counted = built
    assert asked == counted
    assert (asked.library, asked.precision) == ("tensorrt-rtx", "fp16")
    assert [profile.name for profile in asked.profiles] == ["256x256@1"]


def test_bundles_of_one_model_have_names_of_their_own(tiny_bundle: Bundle) -> None:
    twin = Bundle(tiny_bundle.path.with_name("twin"), tiny_bundle.manifest)
    assert list(named([tiny_bundle])) == ["small random"]
    assert list(named([tiny_bundle, twin])) == [
        f"small random in {tiny_bundle.path.name}", "small random in twin",
    ]  # fmt: skip
    old, new = (Bundle(Path(folder) / "demo", tiny_bundle.manifest) for folder in ("old", "new"))
    assert named([old, new]) == {"small random in old/demo": old, "small random in new/demo": new}
    with pytest.raises(UsageError, match="two bundles are named 'small random in old/demo'"):
        named([old, old])


def test_what_is_measured_if_nobody_says(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite_run, "find_gpu", lambda: None)
    assert backends_here([tiny_bundle]) == ("openvino", "onnxruntime")
    monkeypatch.setattr(suite_run, "find_gpu", lambda: "some GPU")
    assert backends_here([tiny_bundle]) == ("onnxruntime-cuda",)
