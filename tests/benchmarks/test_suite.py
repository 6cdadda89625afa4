from __future__ import annotations

import re
from pathlib import Path

import pytest

from maxim_deploy.benchmarks.subjects import Subject
from maxim_deploy.benchmarks.suite import SuitePlan, read_suite
from maxim_deploy.errors import UsageError
from maxim_deploy.export.deployment import REWRITES
from maxim_deploy.spec.architecture import Architecture

GOOD = 'models = ["S-1"]\nbackends = ["onnxruntime"]\nsizes = ["64x128"]\n'
FOLDER = Path(__file__).parents[2] / "benchmarks"
SUITES = sorted(FOLDER.glob("*.toml"))


def suite(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text)
    return path


def test_defaults(tmp_path: Path) -> None:
    assert read_suite(suite(tmp_path, f"[quick]\n{GOOD}")) == {
        "quick": SuitePlan(models=("S-1",), backends=("onnxruntime",), sizes=((64, 128),))
    }


def test_everything_said(tmp_path: Path) -> None:
    text = """
        [small]
        models = ["demo-denoise", { features = 4, stages = 1, groups = 1, bottleneck_blocks = 1 }]
        backends = ["onnxruntime", "tensorrt"]
        precisions = ["fp32", "fp16"]
        baselines = ["torch", "torch fp16", "literal", "none", "each", "gemms"]
        sizes = ["64x64", "100x70"]
        batches = [1, 4]
        brackets = ["network"]
        profiles = ["720p"]
        concurrency = [1, 3]
        threads = 3
        rounds = 9
        least_s = 1
        longest_s = 50.5
        warmup_s = 0
        pause_s = 0.5
        load_s = 2.0
    """
    plan = read_suite(suite(tmp_path, text))["small"]
    torch = (Subject("torch", "fp32", True), Subject("torch", "fp16", True))
    graphs = tuple(Subject(name, "fp32", True) for name in ("literal", "none", *REWRITES))
    assert plan == SuitePlan(
        models=("demo-denoise", Architecture(4, 1, 1, 1)),
        backends=("onnxruntime", "tensorrt"),
        precisions=("fp32", "fp16"),
        baselines=(*torch, *graphs),  # gemms is one of each, and there once
        sizes=((64, 64), (100, 70)),
        batches=(1, 4),
        brackets=("network",),
        profiles=("720p",),
        concurrency=(1, 3),
        threads=3,
        rounds=9,
        least_s=1,
        longest_s=50.5,
        warmup_s=0,
        pause_s=0.5,
        load_s=2.0,
    )
    assert plan.on_gpu
    assert [str(subject) for subject in plan.subjects[:4]] == [
        "torch", "torch fp16", "literal", "none",
    ]  # fmt: skip
    assert [str(subject) for subject in plan.subjects[-4:]] == [
        "onnxruntime", "onnxruntime fp16", "tensorrt", "tensorrt fp16",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "round = 7", "[p] unknown key 'round' (did you mean 'rounds'?); known: models"),
        (GOOD.replace("S-1", "S1"), "models: unknown model 'S1' (did you mean 'S-1'?)"),
        (GOOD.replace('"S-1"', "{ feature = 4 }"), "models: a table must be of an architecture"),
        (GOOD.replace('"S-1"', "7"), "models: unknown model 7"),
        (GOOD.replace('"onnxruntime"', '"onnx"'), "unknown backend 'onnx'; known: tensorrt"),
        (GOOD + 'baselines = ["literall"]', "unknown baseline 'literall' (did you mean 'lit"),
        (GOOD + 'baselines = "literal"', "baselines must be a list: 'literal'"),
        (GOOD + 'precisions = ["fp8"]', "unknown precision 'fp8'"),
        (GOOD + 'brackets = ["all"]', "unknown bracket 'all'"),
        (GOOD.replace('["onnxruntime"]', "[]"), "backends must be a list: []"),
        (GOOD.replace("64x128", "64x0"), "sizes must be HEIGHTxWIDTH: '64x0'"),
        (GOOD.replace("64x128", "64"), "sizes must be HEIGHTxWIDTH: '64'"),
        (GOOD + "rounds = 0", "rounds must be int and at least 1: 0"),
        (GOOD + "rounds = 7.5", "rounds must be int and at least 1: 7.5"),
        (GOOD + "threads = true", "threads must be int and at least 1: True"),
        (GOOD + 'pause_s = "long"', "pause_s must be float and at least 0: 'long'"),
        ("rounds = 7", "there is nothing to measure: name backends or baselines"),
    ],
)
def test_bad_plans(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        read_suite(suite(tmp_path, f"[p]\n{text}"))
    assert str(caught.value).startswith(f"suite {str(tmp_path / 'suite.toml')!r}: [p] ")


@pytest.mark.parametrize("text", ["", "rounds = 7", "[p", "\0"])
def test_bad_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="suite '.*suite.toml': "):
        read_suite(suite(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="suite '.*none.toml': .*No such file"):
        read_suite(tmp_path / "none.toml")


def test_the_promised_suites_are_there() -> None:
    names = {path.name for path in SUITES}
    assert {"quick.toml", "cpu.toml", "gpu-video.toml", "gpu-photo.toml"} <= names


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_committed_suites_are_valid(path: Path) -> None:
    assert read_suite(path)


def test_the_committed_suites_measure_what_is_promised() -> None:
    cpu = read_suite(FOLDER / "cpu.toml")["cpu"]
    assert cpu.models == ("S-1", "S-2", "S-3")
    assert [str(subject) for subject in cpu.subjects] == [
        "torch", "torch-compile", "literal", "onnxruntime", "onnxruntime fp16",
    ]  # fmt: skip
    assert cpu.sizes == ((256, 256), (512, 512))
    plans = read_suite(FOLDER / "deployment.toml")
    assert plans["deployment"].models == ("S-2",)
    assert set(REWRITES) < {subject.name for subject in plans["ablation"].subjects}
    for name in ("gpu-video", "gpu-photo"):
        for plan in read_suite(FOLDER / f"{name}.toml").values():
            assert plan.on_gpu and "fp16" in plan.precisions and plan.profiles
