"""Measured times: what is kept, what counts as known, and what a plan says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maxim_deploy.machine.cache import CACHE_VARIABLE
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.run_times import seconds_of, seconds_per_run
from maxim_deploy.runtime.speeds import Speed, Speeds

ONE = Speed(256, 256, 1, 2, False, 0.2)
TWO = Speed(256, 256, 2, 2, False, 0.16)
IDENTITY = {"bundle": "a", "cpu": "b"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def only_file(cache: Path) -> Path:
    (file,) = (cache / "speeds").iterdir()
    return file


def test_another_process_finds_what_was_measured() -> None:
    Speeds(IDENTITY).add([ONE, TWO])
    found = Speeds(IDENTITY)
    assert found.known == [ONE, TWO]
    found.add([replace(ONE, seconds=0.3)])
    assert len(found.known) == len(Speeds(IDENTITY).known) == 3


@pytest.mark.parametrize("name", ["bundle", "cpu"])
def test_another_bundle_or_machine_finds_nothing(name: str) -> None:
    Speeds(IDENTITY).add([ONE])
    assert Speeds({**IDENTITY, name: "other"}).known == []


def test_a_file_of_another_name_is_not_believed(cache: Path) -> None:
    """Copied by hand, or of a hash that collides."""
    Speeds(IDENTITY).add([ONE])
    own = only_file(cache)
    other = Speeds({**IDENTITY, "cpu": "c"})
    own.rename(other._path())
    assert other.known == []


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        json.dumps({"at": 1, "identity": IDENTITY}),
        json.dumps({"at": 1, "identity": IDENTITY, **vars(ONE), "seconds": -1.0}),
        json.dumps({"at": 1, "identity": IDENTITY, **vars(ONE), "seconds": float("nan")}),
        json.dumps({"at": 1, "identity": IDENTITY, **vars(ONE), "lanes": 0}),
        json.dumps({"at": 1, "identity": IDENTITY, **vars(ONE), "height": "256"}),
        "[" * 100_000,
    ],
    ids=["empty", "torn", "list", "null", "partial", "negative", "nan", "lanes", "text", "deep"],
)
def test_damaged_lines_are_as_if_they_were_not_there(cache: Path, damage: str) -> None:
    Speeds(IDENTITY).add([ONE])
    path = only_file(cache)
    path.write_text(f"{damage}\n{path.read_text()}{damage}")
    speeds = Speeds(IDENTITY)
    assert speeds.known == [ONE]
    speeds.add([TWO])
    assert Speeds(IDENTITY).known == [ONE, TWO]


def test_without_a_folder_they_last_as_long_as_the_process(cache: Path) -> None:
    cache.write_text("a file is in the way")
    speeds = Speeds(IDENTITY)
    speeds.add([ONE])
    assert speeds.known == [ONE] and Speeds(IDENTITY).known == []


# ------------------------------------------------------------------ expected times


def plan(height: int, width: int, **facts) -> Plan:
    return Plan(height, width, (height, width), None, 0, 1, 1, 1, None, "x", "fp32", **facts)


def test_nothing_is_guessed() -> None:
    assert seconds_of(plan(256, 256), [], 2) is None
    assert seconds_of(plan(256, 256), [ONE], 1) is None  # with other threads
    assert seconds_of(plan(256, 256), [ONE], 2, lanes=2) is None


def test_time_per_pixel_lies_between_and_stays_beyond_what_was_measured() -> None:
    large = Speed(1024, 1024, 1, 2, False, 16 * 0.2 * 1.5)
    known = [ONE, large]
    for pixels, rate in ((128**2, 1.0), (256**2, 1.0), (512**2, 1.25), (1024**2, 1.5)):
        expected = 0.2 * rate * pixels / 256**2
        assert seconds_per_run(pixels, known, 2) == pytest.approx(expected)
    assert seconds_per_run(4096**2, known, 2) == pytest.approx(256 * 0.2 * 1.5)


def test_the_last_of_a_size_counts_and_an_idle_machine_before_a_busy_one() -> None:
    busy, newer = replace(ONE, seconds=0.5, is_shared=True), replace(ONE, seconds=0.1)
    assert seconds_of(plan(256, 256), [busy], 2) == 0.5
    assert seconds_of(plan(256, 256), [ONE, newer, busy], 2) == 0.1


def test_tiles_and_orientations_each_take_their_time() -> None:
    tiled = replace(plan(512, 512), tile=(256, 256), tiles=9, self_ensemble=True)
    assert seconds_of(tiled, [ONE], 2) == pytest.approx(9 * 8 * 0.2)


def test_a_plan_says_what_is_not_known() -> None:
    assert "time unknown: run maxim-bench --recommend" in str(plan(8, 8))
    known = plan(8, 8, seconds=3.21, lanes=2, lane_seconds=2.5)
    assert "about 3.2 s; of several 2 at a time in 2 bytes, 2.5 s each" in str(known)
