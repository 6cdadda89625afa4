from __future__ import annotations

import re
from pathlib import Path

import pytest

from maxim_deploy.benchmarks.subjects import rewrites_of
from maxim_deploy.benchmarks.suite import SUBJECTS, Plan, read_suite
from maxim_deploy.errors import UsageError
from maxim_deploy.export.deployment import REWRITES, Rewrites
from maxim_deploy.spec.architecture import VARIANTS, Architecture

GOOD = 'architecture = "S-1"\nsubjects = ["literal"]\nsize = "64x128"\n'
SUITES = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.toml"))


def suite(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text)
    return path


def test_defaults(tmp_path: Path) -> None:
    assert read_suite(suite(tmp_path, f"[quick]\n{GOOD}")) == {
        "quick": Plan(VARIANTS["S-1"], ("literal",), (64, 128))
    }


def test_everything_said(tmp_path: Path) -> None:
    text = """
        [small]
        architecture = { features = 4, stages = 1, groups = 1, bottleneck_blocks = 1 }
        subjects = ["literal", "each", "gemms", "deployment"]
        size = "64x64"
        memory_size = "128x64"
        threads = 3
        rounds = 9
        warmup = 1
        pause_s = 0.5
    """
    subjects = ("literal", *REWRITES, "deployment")
    assert read_suite(suite(tmp_path, text))["small"] == Plan(
        Architecture(4, 1, 1, 1), subjects, (64, 64), (128, 64), 3, 9, 1, 0.5
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "round = 7", "[p] unknown key 'round' (did you mean 'rounds'?); known: arch"),
        (GOOD.replace('"S-1"', '"S1"'), "unknown variant 'S1' (did you mean 'S-1'?)"),
        (GOOD.replace('"S-1"', "{ feature = 4 }"), "architecture must be a variant or a table"),
        (GOOD.replace('"S-1"', "7"), "architecture must be a variant or a table of its fields: 7"),
        (GOOD.replace('"literal"', '"literall"'), "subject 'literall' (did you mean 'literal'?)"),
        (GOOD.replace('["literal"]', "[]"), "subjects must be a list of names"),
        (GOOD.replace('["literal"]', '"literal"'), "subjects must be a list of names"),
        (GOOD.replace("64x128", "64x100"), "size must be HEIGHTxWIDTH in multiples of 64"),
        (GOOD.replace("64x128", "64"), "size must be HEIGHTxWIDTH in multiples of 64: '64'"),
        (GOOD + "rounds = 3", "rounds must be int and at least 5: 3"),
        (GOOD + "rounds = 7.5", "rounds must be int and at least 5: 7.5"),
        (GOOD + "threads = true", "threads must be int and at least 1: True"),
        (GOOD + 'pause_s = "long"', "pause_s must be float and at least 0: 'long'"),
        ("rounds = 7", "missing: architecture, subjects, size"),
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


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_committed_suites_are_valid(path: Path) -> None:
    assert read_suite(path)


def test_the_committed_suite_measures_what_is_promised() -> None:
    plans = read_suite(Path(__file__).parents[2] / "benchmarks" / "deployment.toml")
    plan = plans["deployment"]
    assert (plan.architecture.variant, plan.size, plan.threads) == ("S-2", (256, 256), 2)
    assert plan.memory_size == (1024, 1024)
    assert set(REWRITES) < set(plans["ablation"].subjects)


def test_rewrites_of_subjects() -> None:
    assert rewrites_of("pytorch") is None
    assert rewrites_of("literal") is None
    assert rewrites_of("deployment") == Rewrites()
    assert rewrites_of("none") == Rewrites.only()
    assert rewrites_of("gemms") == Rewrites.only("gemms")
    assert set(SUBJECTS) >= set(REWRITES)
