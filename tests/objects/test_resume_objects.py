"""`--resume`, `--shard` and `--status` with records that are objects."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cli.running import child, maxim_run
from inverter import Inverter, level, picture
from objects.stores import Bucket

from maxim_deploy.jobs import object_record

COUNT = 5


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    return folder


@pytest.fixture
def full(bucket: Bucket) -> Bucket:
    for number in range(COUNT):
        bucket.picture(f"in/{number}.png", number)
    return bucket


def statuses(bucket: Bucket, *args: str, out: str = "") -> list[str]:
    """Of each input, in a run with --resume."""
    result = maxim_run(
        f"{bucket.url}/in", "-o", out or f"{bucket.url}/out", "--resume", "--json", *args
    )
    assert result.exit_code == 0, result.stderr
    lines = {x["input"]: x["status"] for x in map(json.loads, result.stdout.splitlines())}
    return [lines[f"{bucket.url}/in/{number}.png"] for number in range(COUNT)]


ALL, NONE = ["finished"] * COUNT, ["restored"] * COUNT


def test_what_is_finished_is_neither_loaded_nor_read(full: Bucket, network: Inverter):
    assert statuses(full) == NONE
    network.loaded.clear()
    assert statuses(full) == ALL
    assert network.loaded == [] and len(network.calls) == COUNT


def test_what_changed_is_restored_again(full: Bucket, network: Inverter):
    statuses(full)
    full.picture("in/1.png", 99)
    full.put("out/2.png", b"of somebody else")
    full.remove("out/3.png")
    assert statuses(full) == ["finished", "restored", "restored", "restored", "finished"]
    assert full.level("out/1.png") == 156
    assert statuses(full) == ALL
    assert statuses(full, "--rounding", "truncate") == NONE


def test_objects_into_files_and_files_into_objects(full: Bucket, network: Inverter):
    assert statuses(full, out="out") == NONE
    assert statuses(full, out="out") == ALL
    Path("out/1.png").write_bytes(b"changed")
    full.picture("in/2.png", 99)
    assert statuses(full, out="out").count("restored") == 2
    assert level("out/2.png") == 156
    picture("mine/a.png")
    for status in ("1 restored", "1 finished before"):
        again = maxim_run("mine", "-o", f"{full.url}/mine", "--resume")
        assert again.exit_code == 0 and status in again.stderr
    picture("mine/a.png", 11)
    assert "1 restored" in maxim_run("mine", "-o", f"{full.url}/mine", "--resume").stderr


def test_many_results_have_few_records(full: Bucket, network: Inverter, monkeypatch):
    monkeypatch.setattr(object_record, "_MOST_LINES", 2)
    statuses(full)
    records = [key for key in full.keys("out/", records=True) if "/.maxim-run/" in key]
    assert len(records) in (2, 3)  # results that end together share a write
    lines = [line for key in records for line in full.get(key).splitlines()]
    assert {name for line in map(json.loads, lines) for name in line["outputs"]} == {
        f"{number}.png" for number in range(COUNT)
    }
    assert statuses(full) == ALL


@pytest.mark.parametrize("rubbish", [b'{"settings": "x", "inp', b"\xff\xfe\0", b"[]\n", b""])
def test_a_record_that_is_damaged_costs_its_lines(full: Bucket, network: Inverter, rubbish: bytes):
    statuses(full)
    full.put("out/.maxim-run/0-of-1.other.0.jsonl", rubbish)
    assert statuses(full) == ALL


def test_without_the_option_there_are_no_records(full: Bucket, network: Inverter):
    assert maxim_run(f"{full.url}/in", "-o", f"{full.url}/out").exit_code == 0
    assert len(full.keys("out", records=True)) == COUNT


def test_shards_are_the_whole_and_resume_reads_all(full: Bucket, network: Inverter):
    def status() -> dict[str, int]:
        where = (f"{full.url}/in", "-o", f"{full.url}/out", "--status", "--json")
        counts: dict[str, int] = json.loads(maxim_run(*where).stdout)
        return counts

    assert status() == {"finished": 0, "files": COUNT}
    for k in range(2):
        args = (f"{full.url}/in", "-o", f"{full.url}/out", "--shard", f"{k}/2")
        assert maxim_run(*args).exit_code == 0
    assert len(network.calls) == COUNT
    assert status() == {"finished": COUNT, "files": COUNT}
    assert statuses(full) == ALL
    names = {Path(x).name.split(".")[0] for x in full.keys("out/.maxim-run/", records=True)}
    assert names <= {"0-of-2", "1-of-2"} and names


def test_shards_are_those_of_the_same_files_in_a_folder(full: Bucket, network: Inverter):
    for number in range(COUNT):
        picture(f"in/{number}.png")
    there, here = (
        {Path(x).name for x in maxim_run(where, "-o", "out", "--shard", "0/2").stdout.split()}
        for where in (f"{full.url}/in", "in")
    )
    assert there == here


def test_goes_on_where_a_killed_process_stopped(full: Bucket, here: Path):
    """What has been told of is recorded, also where nothing else could be done any more."""
    args = (f"{full.url}/in", "-o", f"{full.url}/out", "--resume")
    body = "inverter.on_call = lambda call: call == 4 and os.kill(os.getpid(), signal.SIGKILL)"
    killed = child(body, *args)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = killed.stdout.split()
    assert list((here / "temporary").iterdir()) != []
    resumed = child("", *args, "--json")
    assert resumed.returncode == 0, resumed.stderr
    lines = map(json.loads, resumed.stdout.splitlines())
    finished = {line["output"] for line in lines if line["status"] == "finished"}
    assert set(told) <= finished
    assert [full.level(f"out/{number}.png") for number in range(COUNT)] == [
        255 - number for number in range(COUNT)
    ]
    assert list((here / "temporary").iterdir()) == []  # the killed one's too


def test_the_first_interruption_finishes_what_is_in_the_network(full: Bucket):
    args = (f"{full.url}/in", "-o", f"{full.url}/out", "--resume")
    stop = "inverter.on_call = lambda call: call == 2 and os.kill(os.getpid(), signal.SIGINT)"
    ended = child(stop, *args)
    assert ended.returncode == 128 + signal.SIGINT, ended.stderr
    done = sorted(ended.stdout.split())  # they are told of in the order in which they are finished
    assert [f"{full.url}/{key}" for key in full.keys("out")] == done and len(done) == 2
    assert "3 restored, 2 finished before" in child("", *args).stderr


def test_a_second_interruption_leaves_nothing_half(full: Bucket, here: Path):
    args = (f"{full.url}/in", "-o", f"{full.url}/out", "--resume")
    body = """
def interrupt(call):
    if call == 2:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
inverter.on_call = interrupt
"""
    ended = child(body, *args)
    assert ended.returncode == 128 + signal.SIGINT and "Traceback" not in ended.stderr, ended.stderr
    assert set(full.keys("out")) <= {"out/0.png"} and not full.unfinished_uploads()
    assert list((here / "temporary").iterdir()) == []


def test_a_record_that_is_too_large_is_named_and_not_read(
    full: Bucket, network: Inverter, monkeypatch
):
    statuses(full)
    monkeypatch.setattr(object_record, "MOST_BYTES", 10)
    result = maxim_run(f"{full.url}/in", "-o", f"{full.url}/out", "--resume")
    (key,) = [key for key in full.keys("out/", records=True) if "/.maxim-run/" in key]
    assert result.exit_code == 1 and len(network.calls) == COUNT
    assert f"record '{full.url}/{key}' | " in result.stderr
    assert "expected at most 10 | remove it" in result.stderr
