"""`maxim-bench --recommend` and `--lanes`: what is measured, chosen, kept and said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import maxim_deploy
from maxim_deploy import UsageError
from maxim_deploy.benchmarks import recommend
from maxim_deploy.benchmarks.recommend import (
    Candidate,
    Recommendation,
    Row,
    candidates_of,
    lanes_of,
)
from maxim_deploy.cli.bench import bench
from maxim_deploy.cli.run import run
from maxim_deploy.machine.cache import CACHE_VARIABLE
from maxim_deploy.spec.bundle import Bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def maxim_bench(*args: object) -> Result:
    return CliRunner().invoke(bench, [str(arg) for arg in args])


@pytest.mark.slow
def test_what_is_measured_is_recommended_and_kept_for_plans(demo_bundle: Path, tmp_path) -> None:
    picture = tmp_path / "a.png"
    maxim_deploy.write_image(picture, maxim_deploy.read_image(PHOTO).rgb[:64, :64].copy())
    plan = [str(demo_bundle), str(picture), "--plan", "--threads", "2"]
    before = CliRunner().invoke(run, plan)
    assert "time unknown: run maxim-bench --recommend" in before.stdout
    result = maxim_bench(
        *("--recommend", demo_bundle, "--size", "64x64", "--rounds", "1", "--threads", "2"),
        *("--precision", "fp32", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["recommend"]
    ways = {(row["backend"], row["threads"], row["lanes"]) for row in found["rows"]}
    assert ways >= {("onnxruntime", 2, 1), ("onnxruntime", 2, 2), ("onnxruntime", 1, 1)}
    rows = found["rows"]
    assert found["throughput"]["seconds"] == min(row["seconds"] for row in rows)
    assert found["latency"]["seconds"] == min(r["seconds"] for r in rows if r["lanes"] == 1)
    for row in rows:
        # Measured at one size, so the time per pixel is the same at all.
        per_pixel = row["seconds"] / 64**2
        assert row["minute_s"] == pytest.approx(per_pixel * 1088 * 1920 * 1800)
        if row["photo"] == "whole" and row["photo_s"]:
            assert row["photo_s"] == pytest.approx(per_pixel * 3008 * 4032)
    after = CliRunner().invoke(run, [*plan, "--json"])
    (one,) = [r for r in rows if (r["backend"], r["threads"], r["lanes"]) == ("onnxruntime", 2, 1)]
    assert json.loads(after.stdout)["seconds"] == pytest.approx(one["seconds"])


PHOTO = Path(maxim_deploy.__file__).parent / "assets" / "chelsea.png"


@pytest.mark.slow
def test_a_folder_with_lanes_and_without(demo_bundle: Path) -> None:
    options = ("--size", "64x64", "--rounds", "1", "--count", "8", "--json")
    result = maxim_bench("--lanes", demo_bundle, *options)
    assert result.exit_code == 0, result.stderr
    alone, beside = (json.loads(line)["lanes"] for line in result.stdout.splitlines())
    assert (alone["is_busy"], beside["is_busy"]) == (False, True)
    for found in (alone, beside):
        assert found["gain"]["median"] > 0 and found["lanes"] >= 1 and found["per_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recommend"], "name one BUNDLE: maxim-bench --recommend BUNDLE --size HxW"),
        (["--recommend", "a", "b"], "name one BUNDLE"),
        (["--recommend", "a", "--size", "1x1", "--size", "2x2"], "takes one --size"),
        (["--recommend", "a", "--size", "64"], "64"),
        (["--recommend", "a", "--batch", "2"], "--batch does not go with --recommend"),
        (["--lanes"], "name one BUNDLE: maxim-bench --lanes BUNDLE"),
        (["a", "--count", "9"], "--count belongs to --lanes, which was not given"),
    ],
)
def test_what_cannot_be_is_said_at_once(arguments, message) -> None:
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code != 0
    assert message in result.stderr or message in str(result.exception)


def test_candidates_are_what_the_bundle_has(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    found = candidates_of(bundle, 8, ["onnxruntime"])
    assert found == [
        Candidate("onnxruntime", precision, threads)
        for precision in ("fp32", "fp16")
        for threads in (8, 4)
    ]
    assert candidates_of(bundle, 1, ["onnxruntime"], ["fp32"]) == [
        Candidate("onnxruntime", "fp32", 1)
    ]
    assert "torch" not in {one.backend for one in candidates_of(bundle, 2)}
    with pytest.raises(UsageError, match="nothing to measure with onnxruntime in"):
        candidates_of(bundle, 2, ["onnxruntime"], ["bf16"])


def test_numbers_of_lanes() -> None:
    assert lanes_of(1, 1) == (1,) and lanes_of(2, 2) == (1, 2) and lanes_of(2, 1) == (1,)
    assert lanes_of(16, 16) == (1, 4, 8, 16) and lanes_of(16, 8) == (1, 4, 8)


def test_the_words_of_a_recommendation() -> None:
    one = Row(Candidate("fast", "fp32", 2), 1, 0.1, 20.0, 500.0, "whole")
    many = replace(one, lanes=2, seconds=0.08, photo_s=None, minute_s=400.0)
    slow = replace(one, candidate=Candidate("slow", "fp16", 1), seconds=0.5)
    text = str(Recommendation((64, 96), "a machine", [many, one, slow], {"x fp32": "broken"}))
    assert "| fast | fp32 | 2 | 2 | 80 | 12.5 | does not fit | 6.7 min |" in text
    assert "One picture soonest: --backend fast --precision fp32 --threads 2 --lanes 1: " in text
    assert "12 megapixels (whole) about 20 s" in text
    assert "--threads 2 --lanes 2: 12.5 per second, a minute of 1080p video about 6.7 min" in text
    assert "not measured: x fp32 | broken" in text


def test_where_nothing_runs_each_reason_is_said(demo_bundle: Path, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise maxim_deploy.BackendError("no such processor")

    monkeypatch.setattr(recommend, "Worker", fails)
    with pytest.raises(maxim_deploy.BackendError, match="fp32 with 2 threads: no such processor"):
        recommend.recommendation(demo_bundle, (64, 64), threads=2)
