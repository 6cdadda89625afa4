"""`maxim-run --shard` and `--status`: parts that are the whole, their records, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.running import maxim_run
from inverter import Inverter, picture

from maxim_deploy import UsageError, plan_files
from maxim_deploy.jobs.shards import Shard

RUN = ("in", "--recursive", "-o", "out")


@pytest.fixture
def pictures(folder: Path) -> list[str]:
    """A dozen pictures in two folders, by their paths."""
    Path("in/sub").mkdir(parents=True)
    names = [*(f"in/{k}.png" for k in range(6)), *(f"in/sub/{k}.png" for k in range(6))]
    return [str(picture(name, 10)) for name in names]


def restored(*args: str) -> list[str]:
    result = maxim_run(*RUN, *args, "--json")
    assert result.exit_code == 0, result.stderr
    lines = map(json.loads, result.stdout.splitlines())
    return [line["input"] for line in lines if line["status"] == "restored"]


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_the_parts_are_the_whole_and_disjoint(pictures, network: Inverter, count: int):
    parts = [restored("--shard", f"{k}/{count}") for k in range(count)]
    assert sorted(name for part in parts for name in part) == sorted(pictures)


def test_a_part_does_not_depend_on_the_folder_that_was_named(pictures, network: Inverter):
    here = {p.name for p in plan_files("in", "out", shard=Shard(0, 2)).targets}
    there = {p.name for p in plan_files(Path("in").resolve(), "out", shard=Shard(0, 2)).targets}
    assert here == there and 0 < len(here) < 6


def test_each_part_has_a_record_and_resume_reads_all(pictures, network: Inverter):
    for k in range(2):
        restored("--shard", f"{k}/2")
    records = {path.name for path in Path("out").rglob(".maxim-run*")}
    assert records == {".maxim-run.0-of-2.jsonl", ".maxim-run.1-of-2.jsonl"}
    assert restored("--shard", "0/3", "--resume") == []  # of another number of parts
    assert restored("--resume") == []
    Path("out/3.png").unlink()
    assert restored("--resume") == ["in/3.png"]
    assert restored("--shard", "0/1", "--resume") == []


def test_status(pictures, network: Inverter):
    def status(*args: str) -> str:
        result = maxim_run(*RUN, "--status", *args)
        assert result.exit_code == 0
        return result.stdout.strip()

    assert status() == "0 of 12 files are finished"
    first = len(restored("--shard", "0/2"))
    assert status() == f"{first} of 12 files are finished"
    assert status("--shard", "1/2") == f"0 of {12 - first} files are finished"
    assert json.loads(status("--shard", "0/2", "--json")) == {"finished": first, "files": first}
    assert status("--rounding", "truncate") == "0 of 12 files are finished"
    next(Path("out").rglob("*.png")).unlink()
    assert status() == f"{first - 1} of 12 files are finished"
    assert len(network.calls) == first


def test_rivals_of_other_parts_are_refused_in_both(folder: Path, network: Inverter):
    """Each part alone would find the name free."""
    Path("in").mkdir()
    for name in ("in/a.png", "in/a.jpg"):
        picture(name)
    errors = [maxim_run("in", "-o", "out", "--shard", f"{k}/2").stderr for k in range(2)]
    assert sum(text.count("is claimed by") for text in errors) == 2
    assert network.calls == []


def test_a_part_without_files_succeeds(folder: Path, network: Inverter):
    picture("a.png")
    codes = [maxim_run("a.png", "-o", "out/", "--shard", f"{k}/40").exit_code for k in range(40)]
    assert set(codes) == {0} and len(network.calls) == 1


def test_a_missing_input_is_said_by_each_part(folder: Path, network: Inverter):
    picture("a.png")
    for k in range(2):
        result = maxim_run("a.png", "none.png", "-o", "out", "--shard", f"{k}/2")
        assert result.exit_code == 1 and "'none.png'" in result.stderr


def test_a_folder_cannot_be_shared_with_its_results(pictures, network: Inverter):
    result = maxim_run("in", "-o", "in", "--shard", "0/2")
    assert result.exit_code == 2 and "name another folder with -o" in result.stderr


@pytest.mark.parametrize("text", ["2/2", "a/2", "1", "-1/2", "0/0", "1/2/3", "0/2000000", ""])
def test_what_is_no_shard(folder: Path, text: str):
    picture("a.png")
    result = maxim_run("a.png", "-o", "out", "--shard", text)
    assert result.exit_code == 2 and "expected I/N" in result.stderr


def test_files_are_spread_evenly() -> None:
    counts = [sum(Shard(k, 7).takes(f"{n}.jpg") for n in range(7000)) for k in range(7)]
    assert sum(counts) == 7000 and max(counts) < 1.15 * min(counts)


def test_bytes_that_are_no_text_have_a_part() -> None:
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    assert sum(Shard(k, 3).takes(name) for k in range(3)) == 1
    with pytest.raises(UsageError, match="expected I/N"):
        Shard(3, 3)
