from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.samples import ENVIRONMENT, handoff, record
from click.testing import CliRunner, Result

from maxim_deploy.benchmarks import suite_run
from maxim_deploy.benchmarks.records import Record, append_records, read_records
from maxim_deploy.benchmarks.suite_run import SuiteRun
from maxim_deploy.cli.bench import bench
from maxim_deploy.imaging.files import write_image
from maxim_deploy.machine import facts

SUITE = """
[first]
models = ["S-1", "S-2"]
backends = ["onnxruntime"]
rounds = 9
[second]
models = ["S-1"]
backends = ["onnxruntime"]
"""
SMALL = """
[small]
backends = ["onnxruntime"]
precisions = ["fp32", "fp16"]
rounds = 6
least_s = 0.3
warmup_s = 0.2
pause_s = 0.02
"""


def maxim_bench(*args: object) -> Result:
    return CliRunner().invoke(bench, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The runs that were asked for; they give what is put behind them as `records`."""
    asked: list[Any] = []

    class Measured(list[SuiteRun]):
        records = ([record("torch", *[100] * 7)], [record("onnxruntime", *[50] * 7)])

    measured = Measured(asked)

    def fake(self: SuiteRun) -> Iterator[list[Record]]:
        measured.append(self)
        yield from measured.records

    monkeypatch.setattr(suite_run.SuiteRun, "records", fake)
    monkeypatch.setattr(facts, "environment", lambda: {**ENVIRONMENT})
    yield measured


@pytest.fixture
def suite(folder: Path) -> Path:
    file = folder / "suite.toml"
    file.write_text(SUITE)
    return file


def test_options_make_a_plan(runs: Any, demo_bundle: Path) -> None:
    result = maxim_bench(
        demo_bundle, "--size", "64x64", "--size", "100x70", "--backend", "onnxruntime",
        "--precision", "fp16", "--batch", 1, "--batch", 4, "--against", "torch",
        "--against", "torch fp16", "--threads", 1, "--rounds", 5, "--cache", "c",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (run,) = runs
    plan = run.plan
    assert plan.sizes == ((64, 64), (100, 70)) and plan.batches == (1, 4)
    assert [str(subject) for subject in plan.subjects] == [
        "torch", "torch fp16", "onnxruntime fp16",
    ]  # fmt: skip
    assert (plan.threads, plan.rounds, run.cache) == (1, 5, Path("c"))
    assert list(run.bundles) == ["demo-denoise"]
    assert "| onnxruntime | 256x256 |" in result.stdout


def test_a_suite_and_what_overrides_it(runs: Any, suite: Path, demo_bundle: Path) -> None:
    assert maxim_bench("--suite", suite, "--cache", "c").exit_code == 0
    assert [(run.name, run.plan.models, run.plan.rounds) for run in runs] == [
        ("first", ("S-1", "S-2"), 9), ("second", ("S-1",), 7),
    ]  # fmt: skip
    runs.clear()
    assert maxim_bench("--suite", suite, "--model", "S-2", "--rounds", 5).exit_code == 0
    assert [(run.name, run.plan.models, run.plan.rounds) for run in runs] == [
        ("first", ("S-2",), 5)
    ]
    runs.clear()
    assert maxim_bench(demo_bundle, "--suite", suite, "--plan", "second").exit_code == 0
    assert [(run.name, list(run.bundles)) for run in runs] == [("second", ["demo-denoise"])]


def test_several_suites(runs: Any, suite: Path, demo_bundle: Path) -> None:
    Path("more.toml").write_text('[third]\nmodels = ["S-3"]\nbackends = ["onnxruntime"]\n')
    assert maxim_bench("--suite", suite, "--suite", "more.toml").exit_code == 0
    assert [run.name for run in runs] == ["first", "second", "third"]
    runs.clear()
    two = "--suite", suite, "--suite", "more.toml", "--plan", "third"
    assert maxim_bench(*two).exit_code == 0
    assert [(run.name, run.plan.models) for run in runs] == [("third", ("S-3",))]


def test_records_are_appended_as_they_come(runs: Any, demo_bundle: Path, folder: Path) -> None:
    for _ in range(2):
        assert maxim_bench(demo_bundle, "-o", "r.jsonl").exit_code == 0
    assert [one.subject for one in read_records(Path("r.jsonl"))] == ["torch", "onnxruntime"] * 2

    def broken() -> Iterator[list[Record]]:
        yield [record("torch")]
        raise KeyboardInterrupt

    runs.records = broken()
    assert maxim_bench(demo_bundle, "-o", "cut.jsonl").exit_code == 130
    assert len(read_records(Path("cut.jsonl"))) == 1


def test_json_is_a_record_per_line(runs: Any, demo_bundle: Path) -> None:
    result = maxim_bench(demo_bundle, "--json")
    assert [json.loads(line)["subject"] for line in result.stdout.splitlines()] == [
        "torch", "onnxruntime",
    ]  # fmt: skip


def test_a_subject_that_failed_is_exit_code_1(runs: Any, demo_bundle: Path, folder: Path) -> None:
    runs.records = ([record("torch", error="no torch", timings={}), record("onnxruntime")],)
    result = maxim_bench(demo_bundle, "-o", "r.jsonl")
    assert result.exit_code == 1
    assert "failed: S-1 random torch | no torch" in result.stderr
    assert len(read_records(Path("r.jsonl"))) == 2
    assert "| onnxruntime |" in result.stdout


def test_a_regression_is_exit_code_1(runs: Any, demo_bundle: Path, folder: Path) -> None:
    before = Path("before.jsonl")
    append_records(before, [record("onnxruntime", *[50] * 7)])
    assert maxim_bench(demo_bundle, "--baseline", before).exit_code == 0
    runs.records = ([record("onnxruntime", *[60] * 7)],)
    result = maxim_bench(demo_bundle, "--baseline", before)
    assert result.exit_code == 1
    assert "50 ms before, 60 ms now, x 1.20 (1.20 to 1.20): slower" in result.stderr
    runs.records = ([record("onnxruntime", *[40] * 7)],)
    assert maxim_bench(demo_bundle, "--baseline", before).exit_code == 0
    runs.records = ([record("torch", *[40] * 7)],)
    result = maxim_bench(demo_bundle, "--baseline", before)
    assert result.exit_code == 1 and "nothing was compared" in result.stderr


def test_another_state_of_the_machine_is_no_regression_and_no_success(
    runs: Any, demo_bundle: Path, folder: Path
) -> None:
    append_records(Path("before.jsonl"), [record("onnxruntime", *[50] * 7, noise=handoff(80))])
    runs.records = ([record("onnxruntime", *[60] * 7, noise=handoff(280))],)
    result = maxim_bench(demo_bundle, "--baseline", "before.jsonl")
    assert result.exit_code == 1 and "slower" not in result.stderr
    assert "no verdict, the host has moved the processors: a cache line took 80 ns" in result.stderr
    assert "no verdict on 1 of 1: run it again" in result.stderr
    append_records(Path("before.jsonl"), [record("torch", *[50] * 7)])
    runs.records[0].append(record("torch", *[50] * 7))
    result = maxim_bench(demo_bundle, "--baseline", "before.jsonl")
    assert result.exit_code == 1 and "no verdict on 1 of 2: run it again" in result.stderr
    runs.records = ([record("onnxruntime", *[50] * 7, noise=handoff(90))],)
    assert maxim_bench(demo_bundle, "--baseline", "before.jsonl").exit_code == 0


def test_what_the_baseline_had_and_fails_now_is_said(runs: Any, folder: Path) -> None:
    before, now = Path("before.jsonl"), Path("now.jsonl")
    append_records(before, [record("a", *[50] * 7), record("b", *[50] * 7)])
    append_records(now, [record("a", *[50] * 7), record("b", device=None, error="out of memory")])
    result = maxim_bench("--render", now, "--baseline", before)
    assert result.exit_code == 1
    assert "not compared: S-1 random b | out of memory" in result.stderr


def test_another_machine_is_refused_before_anything_is_measured(
    runs: Any, demo_bundle: Path, folder: Path
) -> None:
    other = record("onnxruntime", environment=ENVIRONMENT | {"cpu": "6502"})
    append_records(Path("before.jsonl"), [other])
    result = maxim_bench(demo_bundle, "--baseline", "before.jsonl")
    assert result.exit_code == 2 and not runs
    assert "baseline of 6502 (Zilog 8 0 1) x 2 | this is another machine, Z80" in result.stderr


def test_rendering_needs_no_measurement(runs: Any, folder: Path) -> None:
    file, before = Path("r.jsonl"), Path("before.jsonl")
    append_records(file, [record("onnxruntime", *[60] * 7)])
    append_records(before, [record("onnxruntime", *[50] * 7)])
    result = maxim_bench("--render", file)
    assert result.exit_code == 0 and not runs
    assert result.stdout.startswith("# Results") and "## r.jsonl" in result.stdout
    assert maxim_bench("--render", file, "--baseline", before).exit_code == 1
    assert json.loads(maxim_bench("--render", file, "--json").stdout)["subject"] == "onnxruntime"
    append_records(file, [record("torch", error="was not there")])
    assert maxim_bench("--render", file).exit_code == 0  # an old failure is none of this call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name a BUNDLE to measure, or a --suite of models"),
        ("--plan first", "--plan and --model choose from a suite"),
        ("--model S-1", "--plan and --model choose from a suite"),
        ("--suite none.toml", "suite 'none.toml': "),
        ("--suite suite.toml --plan frist", "has no plan 'frist' (did you mean 'first'?); it has"),
        (
            "--suite suite.toml --suite bare.toml --plan frist",
            "'suite.toml', 'bare.toml' has no",
        ),
        ("--suite suite.toml --suite suite.toml", "suite 'suite.toml' has plan '"),
        ("--suite suite.toml --model S-3", "unknown model 'S-3' (did you mean"),
        ("--suite bare.toml", "plan [bare] has no models: name a BUNDLE to measure"),
        ("--suite suite.toml --size 7", "sizes must be HEIGHTxWIDTH: '7'"),
        ("--suite suite.toml --backend cpu", "unknown backend 'cpu'; known: tensorrt"),
        ("--suite suite.toml --precision fp8", "unknown precision 'fp8'"),
        ("--suite suite.toml --batch 0", "batches must be int and at least 1: 0"),
        ("--suite suite.toml --threads 0", "threads must be int and at least 1: 0"),
        ("--suite suite.toml --against tensorflow", "unknown baseline 'tensorflow'; known: torch"),
        ("--suite suite.toml --baseline none.jsonl", "cannot read records from 'none.jsonl'"),
        ("--suite suite.toml --baseline suite.toml", "'suite.toml', line 2: not a record"),
        ("--suite suite.toml --baseline empty.jsonl", "this is another machine"),
        ("--suite suite.toml -o .", "records '.' | cannot be written"),
        ("--suite empty.jsonl", "suite 'empty.jsonl': a suite is made of tables"),
        ("--render", "name files of records: maxim-bench --render FILE.jsonl..."),
        ("--render none.jsonl", "cannot read records from 'none.jsonl'"),
        ("--render empty.jsonl", "there is no record in empty.jsonl"),
        ("--render suite.toml --layers", "--layers measures, but --render does not"),
        ("--suite suite.toml --parity p.jsonl", "are for a report: name it with --report"),
        ("--suite suite.toml --pictures .", "are for a report: name it with --report"),
        ("--suite suite.toml --report r.html --pictures .", "--pictures needs a BUNDLE"),
        ("--suite suite.toml --report r.html --parity none", "cannot read parity from 'none'"),
        (
            "--suite suite.toml --report r.html --parity other.jsonl",
            "not written by `maxim",
        ),
    ],
)
def test_misuse_has_a_reason_and_exit_code_2(
    runs: Any, suite: Path, arguments: str, message: str
) -> None:
    Path("empty.jsonl").touch()
    Path("other.jsonl").write_text('{"a": 1}')
    Path("bare.toml").write_text('[bare]\nbackends = ["onnxruntime"]')
    result = maxim_bench(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not runs


def test_a_report_has_layers_parity_and_pictures(
    runs: Any, demo_bundle: Path, folder: Path
) -> None:
    Path("parity.jsonl").write_text(
        '{"a": "demo:fp32", "b": "demo:fp16", "image": "lynx", "max_error_levels": 0.6, '
        '"psnr": 66.5, "threshold": "fp16", "passed": true}\n'
    )
    picture = np.full((50, 60, 3), 100, np.uint8)
    for name in ("input", "target"):
        Path("pairs", name).mkdir(parents=True)
        write_image(Path("pairs", name, "meadow.png"), picture)
    result = maxim_bench(
        demo_bundle, "--size", "64x64", "--precision", "fp32", "--layers", "--report", "r.html",
        "--parity", "parity.jsonl", "--pictures", "pairs",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "between nodes" in result.stdout and "encoder" in result.stdout
    page = Path("r.html").read_text()
    for part in ("lynx", "meadow", "What is still wrong", "encoder"):
        assert part in page, part
    assert "What is still wrong" not in _report_without_targets(demo_bundle)


def _report_without_targets(bundle: Path) -> str:
    result = maxim_bench(bundle, "--report", "plain.html", "--pictures", "pairs/input")
    assert result.exit_code == 0, result.stderr
    return Path("plain.html").read_text()


def test_layers_as_json(runs: Any, demo_bundle: Path) -> None:
    result = maxim_bench(demo_bundle, "--size", "64x64", "--layers", "--json")
    *_, fp32, fp16 = (json.loads(line) for line in result.stdout.splitlines())
    assert [one["profile"]["precision"] for one in (fp32, fp16)] == ["fp32", "fp16"]
    assert fp32["profile"]["wall_ms"] > 0


def test_what_cannot_be_profiled_is_said(runs: Any, demo_bundle: Path) -> None:
    result = maxim_bench(demo_bundle, "--layers", "--backend", "onnxruntime-cuda")
    assert result.exit_code == 1  # nothing was profiled
    assert "not profiled: demo-denoise onnxruntime-cuda fp16 | " in result.stderr


def test_what_a_report_needs_is_checked_before_anything_is_measured(
    runs: Any, demo_bundle: Path, folder: Path
) -> None:
    Path("file").write_text("")
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/a.png").write_bytes(b"no picture")
    for options, words in {
        "--report file/x.html": "cannot write a report to 'file/x.html'",
        "--report empty": "'empty' is a folder",
        "--report x.html --pictures none": "folder 'none' | there is none",
        "--report x.html --pictures empty": "folder 'empty' | there is no image file in it",
        "--report x.html --pictures broken": "broken/a.png",
    }.items():
        result = maxim_bench(demo_bundle, *options.split())
        assert result.exit_code in (1, 2) and words in result.stderr, result.stderr
        assert not runs and not Path("x.html").exists()


@pytest.mark.parametrize("module", ["onnx", "psutil", "jinja2", "matplotlib"])
def test_what_is_not_installed_is_said_before_anything_is_measured(
    runs: Any, demo_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = maxim_bench(demo_bundle, "--report", "x.html")
    assert result.exit_code == 2 and not runs
    assert f"{module} is not installed; run: pip install 'maxim-deploy[bench]'" in result.stderr


def test_a_report_is_written_whatever_the_baseline_says(runs: Any, folder: Path) -> None:
    append_records(Path("r.jsonl"), [record("onnxruntime", *[60] * 7)])
    append_records(Path("before.jsonl"), [record("torch", *[50] * 7)])
    result = maxim_bench("--render", "r.jsonl", "--baseline", "before.jsonl", "--report", "x.html")
    assert result.exit_code == 1 and "nothing was compared" in result.stderr
    assert Path("x.html").exists()


def test_a_failure_under_load_is_exit_code_1(runs: Any, demo_bundle: Path) -> None:
    runs.records = ([record("onnxruntime", *[50] * 7, load_error="8 callers: no memory")],)
    result = maxim_bench(demo_bundle)
    assert result.exit_code == 1
    assert "failed: S-1 random onnxruntime | 8 callers: no memory" in result.stderr
    assert "- onnxruntime 256x256: failed: 8 callers: no memory" in result.stdout


def test_all_runs_of_a_call_belong_together(runs: Any, suite: Path) -> None:
    assert maxim_bench("--suite", suite).exit_code == 0
    first, second = runs
    assert first.call == second.call and first.environment is second.environment
    assert 0 <= first.environment["busy"] <= 1
    runs.clear()
    assert maxim_bench("--suite", suite).exit_code == 0
    assert runs[0].call != first.call


def test_no_bundle_there(runs: Any, folder: Path) -> None:
    result = maxim_bench("nowhere")
    assert result.exit_code == 1 and "'nowhere' is not a bundle" in result.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("measuring")
def test_a_bundle_is_measured(demo_bundle: Path, folder: Path) -> None:
    """Everything that a user gets, on the demo model at a small size."""
    Path("small.toml").write_text(SMALL)
    common = [demo_bundle, "--suite", "small.toml", "--size", "60x64", "--cache", "cache"]
    result = maxim_bench(*common, "--against", "torch", "-o", "r.jsonl")
    assert result.exit_code == 0, result.stderr
    torch, single, half = records = read_records(Path("r.jsonl"))
    assert [one.label for one in records] == ["torch", "onnxruntime", "onnxruntime fp16"]
    for one in records:
        assert one.error is None and one.run == torch.run
        network = one.timings["network"]
        assert len(network["rounds_ms"]) == 6 and network["wall"]["p50_ms"] > 0
        assert sum(map(sum, network["rounds_ms"])) >= 300  # `least_s` in all
        assert one.start is not None and one.start["load_s"] > 0
        assert one.memory is not None and one.memory["size"] == [64, 64]
        assert one.agreement is not None and one.agreement["with"] == "torch"
        assert one.noise is not None and one.noise["foreign_cpu"] >= 0
        assert one.handoff_ns is None or 20 < one.handoff_ns < 1e5
        assert one.noise["handoff_before_ns"] is None  # in a cache of its own
    assert set(single.timings) == {"network", "image"} and set(torch.timings) == {"network"}
    assert torch.graph is None and torch.cost is None  # the literal graph was not asked for
    assert single.graph is not None and single.graph["nodes"] > 100
    assert single.cost is not None and 0 < single.cost["fused_share"] <= single.cost["share"]
    assert single.agreement is not None and single.agreement["max_error"] < 1e-5
    assert half.precision == "fp16" and half.cost is not None

    # The same again, against an earlier record that was ten times as fast.
    faster = [
        replace(one, timings={"network": _faster(one.timings["network"])}, noise=None)
        for one in records
        if one.subject == "onnxruntime"
    ]
    append_records(Path("earlier.jsonl"), faster)
    again = maxim_bench(*common, "--precision", "fp32", "--baseline", "earlier.jsonl")
    assert again.exit_code == 1 and "slower" in again.stderr


def _faster(timing: dict[str, Any]) -> dict[str, Any]:
    return timing | {"rounds_ms": [[ms / 10 for ms in turn] for turn in timing["rounds_ms"]]}


def test_a_changed_bundle_fails_with_a_reason(demo_bundle: Path, folder: Path) -> None:
    shutil.copytree(demo_bundle, "copy")
    weights = Path("copy/fp32.weights")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    result = maxim_bench("copy", "--precision", "fp32", "--size", "64x64", "--rounds", 1)
    assert result.exit_code == 1
    assert "failed: demo-denoise onnxruntime | 'copy/fp32.weights' has changed" in result.stderr
