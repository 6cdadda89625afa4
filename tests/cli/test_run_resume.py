"""`maxim-run --resume`: what is left alone, what is done again, after crashes and side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli.running import INVERTING, ROOT, TESTS, child, maxim_run
from inverter import Inverter, files, level, picture

from maxim_deploy.jobs.record import NAME

OUT = ("-o", "out", "--resume")


@pytest.fixture
def done(folder: Path, network: Inverter) -> list[str]:
    """Two pictures that a run with --resume has restored; their names."""
    names = [str(picture(name, value)) for name, value in (("a.png", 10), ("b.png", 20))]
    assert maxim_run(*names, *OUT).exit_code == 0
    network.calls.clear()
    network.loaded.clear()
    return names


def again(names: list[str], *args: str) -> list[str]:
    """The status of each file in a second run."""
    result = maxim_run(*names, *OUT, *args, "--json")
    records = {r["input"]: r["status"] for r in map(json.loads, result.stdout.splitlines())}
    return [records[name] for name in names]


def test_what_is_finished_is_left_alone_and_nothing_loaded(done, network: Inverter):
    before = [Path(f"out/{name}").stat().st_mtime_ns for name in done]
    result = maxim_run(*done, *OUT)
    assert (result.exit_code, result.stdout.split()) == (0, ["out/a.png", "out/b.png"])
    assert "0 restored, 2 finished before in 0.0 s" in result.stderr
    assert network.loaded == []
    assert [Path(f"out/{name}").stat().st_mtime_ns for name in done] == before


def test_without_the_option_everything_is_restored_and_no_record_kept(folder, network: Inverter):
    picture("a.png")
    for _ in range(2):
        maxim_run("a.png", "-o", "out")
    assert (len(network.calls), files("out")) == (2, ["a.png"])


def test_a_result_that_is_gone_or_damaged_is_made_again(done, network: Inverter):
    Path("out/a.png").unlink()
    whole = Path("out/b.png").read_bytes()
    assert again(done) == ["restored", "finished"]
    Path("out/b.png").write_bytes(whole[:-1] + b"?")  # of the same size
    assert again(done) == ["finished", "restored"]
    assert Path("out/b.png").read_bytes() == whole


def test_an_input_that_changed_is_restored_again(done, network: Inverter):
    before = Path("a.png").stat()
    picture("a.png", 11)
    assert Path("a.png").stat().st_size == before.st_size
    assert again(done) == ["restored", "finished"]
    assert level("out/a.png") == 244
    os.utime("a.png")  # touched, not changed
    assert again(done) == ["finished", "finished"]


def test_an_input_that_changed_without_another_size_or_time(done, network: Inverter):
    before = Path("a.png").stat()
    picture("a.png", 11)
    os.utime("a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = Path("a.png").stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert again(done) == ["restored", "finished"]
    assert level("out/a.png") == 244


def test_an_input_of_the_same_name_elsewhere(done, network: Inverter):
    other = picture("x/a.png", 30)
    os.utime(other, ns=(Path("a.png").stat().st_atime_ns, Path("a.png").stat().st_mtime_ns))
    assert again([str(other)]) == ["restored"]
    assert level("out/a.png") == 225


@pytest.mark.parametrize(
    "args", [("--rounding", "truncate"), ("--precision", "fp32"), ["--compare"]]
)
def test_other_settings_make_another_result(done, network: Inverter, args):
    assert again(done, *args) == ["restored", "restored"]
    assert again(done, *args) == ["finished", "finished"]
    assert again(done) == ["restored", "restored"]


def test_the_number_of_threads_makes_no_other_result(done, network: Inverter):
    assert again(done, "--threads", "2") == ["finished", "finished"]


def test_another_bundle_makes_another_result(done, network: Inverter):
    Path("bundle").mkdir()
    for content in ("one", "two"):
        Path("bundle/manifest.json").write_text(content)
        assert again(done) == ["restored", "restored"]
        assert again(done) == ["finished", "finished"]


def test_before_and_after_belongs_to_the_result(done, network: Inverter):
    again(done, "--compare")
    Path("out/a.before-after.png").unlink()
    assert again(done, "--compare") == ["restored", "finished"]


def test_failures_are_tried_again(folder: Path, network: Inverter):
    Path("a.png").write_bytes(b"not an image")
    assert again(["a.png"]) == again(["a.png"]) == ["failed"]
    picture("a.png")
    assert again(["a.png"]) == ["restored"]


@pytest.mark.parametrize(
    "rubbish", [b'{"settings": "x", "inp', b"\xff\xfe\0", b"[]", b"{}", b'{"outputs": ["a.png"]}']
)
def test_a_torn_record_costs_a_line_and_no_result(done, network: Inverter, rubbish: bytes):
    record = Path("out") / NAME
    record.write_bytes(record.read_bytes() + rubbish)
    assert again(done) == ["finished", "finished"]
    picture("b.png", 21)
    assert again(done) == ["finished", "restored"]  # and is noted behind the rubbish
    assert again(done) == ["finished", "finished"]
    lines = record.read_bytes().splitlines()
    record.write_bytes(b"\n".join(line[: len(line) // 2] for line in lines))
    assert again(done) == ["restored", "restored"]


def test_sub_folders_have_records_of_their_own(folder: Path, network: Inverter):
    for name in ("in/a.png", "in/x/a.png"):
        picture(name)
    first = maxim_run("in", *OUT, "--recursive")
    assert files("out/x") == [NAME, "a.png"]
    second = maxim_run("in", *OUT, "--recursive")
    assert second.stdout == first.stdout
    assert len(network.calls) == 2


def test_goes_on_where_a_killed_process_stopped(folder: Path):
    names = [str(picture(name)) for name in ("a.png", "b.png", "c.png")]
    body = "inverter.on_call = lambda call: call == 3 and os.kill(os.getpid(), signal.SIGKILL)"
    killed = child(body, *names, *OUT)
    assert killed.returncode == -signal.SIGKILL
    finished = len(killed.stdout.splitlines())
    assert finished >= 1
    resumed = child("", *names, *OUT, "--json")
    records = [json.loads(line) for line in resumed.stdout.splitlines()]
    assert [record["output"] for record in records] == ["out/a.png", "out/b.png", "out/c.png"]
    assert sum(record["status"] == "finished" for record in records) >= finished
    assert records[-1]["status"] == "restored"
    assert level("out/c.png") == 245


def test_two_processes_in_one_folder_do_no_harm(folder: Path):
    names = [str(picture(f"in/{index}.png", index)) for index in range(20)]
    code = INVERTING.format(tests=str(TESTS), body="")
    command = [sys.executable, "-c", code, "bundle", "in", *OUT]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pair = [subprocess.Popen(command, env=environment, **streams) for _ in range(2)]
    for process in pair:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, len(out.split())) == (0, len(names)), err.decode()
    assert files("out") == sorted([NAME, *(Path(name).name for name in names)])
    assert [level(f"out/{index}.png") for index in range(20)] == [255 - k for k in range(20)]
    after = child("", "in", *OUT)
    assert "0 restored, 20 finished before" in after.stderr


@pytest.mark.parametrize("args", [(), ("--compare",), ("--recursive",)])
def test_a_folder_is_restored_into_itself_again_and_again(folder: Path, network: Inverter, args):
    for name, value in (("in/a.jpg", 10), ("in/x/b.bmp", 20)):
        picture(name, value)
    first = maxim_run("in", "-o", "in", *args)
    found = [files("in"), files("in/x")]
    calls = len(network.calls)
    for _ in range(2):
        after = maxim_run("in", "-o", "in", *args)
        assert (after.exit_code, after.stdout) == (0, first.stdout)
        assert [files("in"), files("in/x")] == found
        assert "result" in after.stderr  # how many were skipped
    assert len(network.calls) == 3 * calls
    assert NAME in found[0]


def test_a_folder_restored_into_itself_resumes(folder: Path, network: Inverter):
    picture("in/a.jpg")
    maxim_run("in", "-o", "in")
    assert "1 finished before" in maxim_run("in", "-o", "in", "--resume").stderr
    picture("in/c.jpg")
    assert "1 restored, 1 finished" in maxim_run("in", "-o", "in", "--resume").stderr
