"""`maxim-run`: which file becomes which, what fails and how that is told, and what stays whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cli.running import ROOT, child, maxim_run
from click.testing import CliRunner, Result
from inverter import Inverter, files, level, picture
from PIL import Image

import maxim_deploy
from maxim_deploy import runtime
from maxim_deploy.cli.run import run
from maxim_deploy.errors import BackendError, BundleError
from maxim_deploy.imaging.files import read_image

# Which file becomes which


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".WEBP", ".tif", ".bmp"])
def test_one_file_to_one_file(folder: Path, network: Inverter, suffix: str):
    picture("a.jpg")
    result = maxim_run("a.jpg", "-o", f"new/b{suffix}")
    assert (result.exit_code, result.stdout) == (0, f"new/b{suffix}\n")
    assert abs(level(f"new/b{suffix}") - 245) <= 1
    assert "1 restored in 0." in result.stderr


def test_earlier_results_are_replaced(folder: Path, network: Inverter):
    picture("a.png", 10)
    picture("out/a.png", 99)
    assert maxim_run("a.png", "-o", "out").exit_code == 0
    assert level("out/a.png") == 245


def test_options_reach_the_runtime(folder: Path, network: Inverter):
    picture("a.png")
    options = ["--backend", "onnxruntime", "--precision", "fp32", "--threads", "2"]
    maxim_run("a.png", "-o", "b.png", *options, "--rounding", "truncate")
    maxim_run("a.png", "-o", "c.png")
    tiles = ["--overlap", "32", "--max-memory", "4GiB", "--device", "0", "--ensemble"]
    maxim_run("a.png", "-o", "d.png", *tiles, "--tile", "512")
    given = {"backend": "onnxruntime", "precision": "fp32", "threads": 2}
    default = {"backend": "auto", "precision": "auto"}
    more = {**default, "tile": 512, "overlap": 32, "max_memory": "4GiB", "device": 0}
    assert [options for _, options in network.loaded] == [given, default, more]
    assert network.calls == ["truncate", "nearest", "nearest ensemble"]


def test_what_only_looks_like_a_number_is_the_runtimes_to_refuse(folder: Path, network: Inverter):
    picture("a.png")
    assert maxim_run("a.png", "-o", "b.png", "--tile", "\u00b2").exit_code == 0
    assert network.loaded[0][1]["tile"] == "\u00b2"


# What is refused before the network is loaded


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["a.png", "-o", "b.gif"], 2, "suffix '.gif'"),
        (
            ["empty", "-o", "out"],
            2,
            "no image or video files in there; skipped 1 of",
        ),
        (["a.png"], 2, "name the file or folder to write with -o OUT"),
        (["-o", "out"], 2, "Missing argument 'INPUT...'"),
        (["a.png", "-o", "out", "--threads", "0"], 2, "0 is not in the range"),
        (["a.png", "-o", "out", "--backend", "cuda"], 2, "unknown backend 'cuda'; known: auto"),
        (["a.png", "-o", "a.jpg/out"], 1, "output folder 'a.jpg/out' | cannot be written: Not a"),
        (["a.png", "b.png", "-o", "a.jpg"], 1, "output folder 'a.jpg' | cannot be written: File"),
        (["a.png", "-o", "/proc/new/out"], 1, "output folder '/proc/new/out' | cannot be written"),
        (["a.png", "-o", "/proc/b.png"], 1, "output folder '/proc' | cannot be written"),
        (["nope.png", "-o", "out.png"], 1, "image 'nope.png' | cannot be read: No such file"),
    ],
)
def test_usage_and_outputs_are_checked_first(
    folder: Path, network: Inverter, args: list[str], code: int, words: str
):
    picture("a.png")
    picture("a.jpg")
    picture("b.png")
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()
    result = maxim_run(*args)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""
    assert network.loaded == []
    assert files(".") == ["a.jpg", "a.png", "b.png", "empty"]


def test_a_bundle_that_cannot_be_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def load(bundle: Path, **_: object) -> None:
        raise BundleError(f"'{bundle}' is no bundle")

    monkeypatch.setattr(runtime, "load", load)
    picture("a.png")
    result = maxim_run("a.png", "-o", "out")
    assert (result.exit_code, result.stderr) == (1, "Error: 'bundle' is no bundle\n")


# What fails for one file and leaves the others


def assert_failed(result: Result, *expected: str) -> None:
    """Each failure is told once, when it happens, and counted at the end."""
    told, summary = result.stderr.split(" restored, ")
    assert summary.startswith(f"{len(expected)} failed")
    assert result.exit_code == 1
    for words in expected:
        assert told.count(words) == 1
        assert words not in summary


def test_inputs_that_clash_all_fail(folder: Path, network: Inverter):
    for name in ("a.png", "a.jpg", "x/a.png", "b.png"):
        picture(name)
    result = maxim_run("a.png", "b.png", "a.jpg", "x/a.png", "-o", "out")
    assert_failed(
        result,
        "image 'a.png' | output 'out/a.png' is claimed by 'a.jpg', 'x/a.png' too",
        "image 'a.jpg' | output 'out/a.png' is claimed by 'a.png', 'x/a.png' too",
        "image 'x/a.png' | output 'out/a.png' is claimed by 'a.png', 'a.jpg' too",
    )
    assert files("out") == ["b.png"]


def test_no_input_is_ever_overwritten(folder: Path, network: Inverter):
    picture("in/a.png", 10)
    picture("in/b.jpg", 20)
    Path("same").symlink_to("in")
    result = maxim_run("in", "-o", "same")
    assert_failed(result, "image 'in/a.png' | output 'same/a.png' would overwrite an input")
    assert result.stdout == "same/b.png\n"
    assert level("in/a.png") == 10
    Path("in/b.png").write_bytes(b"")  # an input that cannot be read is still an input
    result = maxim_run("in", "-o", "in")
    assert "image 'in/b.jpg' | output 'in/b.png' would overwrite an input" in result.stderr
    result = maxim_run("in/b.jpg", "-o", "in/b.jpg")
    assert_failed(result, "output 'in/b.jpg' would overwrite an input")


def test_bad_files_do_not_stop_the_others(folder: Path, network: Inverter):
    for name in ("in/a.png", "in/e.png"):
        picture(name)
    Path("in/b.png").write_bytes(b"")
    Path("in/c.png").write_bytes(b"not an image")
    Path("in/d.png").symlink_to("nowhere")
    result = maxim_run("nope.png", "in", "nope.png", "-o", "out")
    assert_failed(
        result,
        "image 'nope.png' | cannot be read: No such file",
        "image 'in/b.png' | the file is empty",
        "image 'in/c.png' | is damaged or not an image",
        "image 'in/d.png' | cannot be read: No such file",
    )
    assert result.stdout.split() == ["out/a.png", "out/e.png"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BackendError("it broke"), "image 'b.png' | it broke"),
        (MemoryError(), "image 'b.png' | not enough memory"),
        (OSError(5, "Input/output error"), "image 'b.png' | [Errno 5] Input/output error"),
    ],
)
def test_a_network_that_fails_once(folder: Path, network: Inverter, error: Exception, words: str):
    def fail_at_second(call: int) -> None:
        if call == 2:
            raise error

    network.on_call = fail_at_second
    names = [str(picture(name)) for name in ("a.png", "b.png", "c.png")]
    assert_failed(maxim_run(*names, "-o", "out"), words)
    assert files("out") == ["a.png", "c.png"]


def test_a_bug_stops_everything_and_keeps_what_is_done(folder: Path, network: Inverter):
    def fail_at_second(call: int) -> None:
        if call == 2:
            raise ZeroDivisionError("a bug")

    network.on_call = fail_at_second
    names = [str(picture(name)) for name in ("a.png", "b.png", "c.png")]
    result = maxim_run(*names, "-o", "out")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "this is a bug in maxim-deploy" in result.stderr
    assert files("out") == ["a.png"]
    assert level("out/a.png") == 245


def test_a_bug_in_writing_the_last_file_shows(
    folder: Path, network: Inverter, monkeypatch: pytest.MonkeyPatch
):
    def write_image(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(maxim_deploy.imaging.files, "write_image", write_image)
    result = maxim_run(str(picture("a.png")), "-o", "out")
    assert result.exit_code == 1
    assert "ZeroDivisionError: a bug\nthis is a bug in maxim-deploy" in result.stderr


def test_alpha_is_refused_before_the_network_works(folder: Path, network: Inverter):
    Image.new("RGBA", (3, 3)).save("a.png")
    assert_failed(maxim_run("a.png", "-o", "b.jpg"), "image 'a.png' | output 'b.jpg' | JPEG cannot")
    assert network.calls == []
    assert files(".") == ["a.png"]


def test_json_has_one_object_per_file(folder: Path, network: Inverter):
    picture("a.png", size=(6, 4))
    Path("bad.png").write_bytes(b"not an image")
    result = maxim_run("a.png", "nope.png", "bad.png", "-o", "out", "--json")
    assert result.exit_code == 1
    records = {record["input"]: record for record in map(json.loads, result.stdout.splitlines())}
    assert list(records) == ["nope.png", "a.png", "bad.png"]
    good = records["a.png"]
    assert 0 < good.pop("network_seconds") < good.pop("seconds") < 1
    assert good == {
        "input": "a.png",
        "output": "out/a.png",
        "status": "restored",
        "error": None,
        "height": 4,
        "width": 6,
        "frames": None,
        "fps": None,
        "left_out": [],
    }
    for name in ("nope.png", "bad.png"):
        bad = records[name]
        assert (bad["status"], bad["output"], bad["height"]) == ("failed", None, None)
        assert bad["error"].startswith(f"image '{name}' | ")


# In a process of its own: signals, limits, and the true network


def test_killed_while_writing_leaves_whole_files_only(folder: Path):
    names = [str(picture(name)) for name in ("a.png", "b.png", "c.png")]
    body = """
fsync = os.fsync
def kill_at_second(file):
    if "/.b.png." in os.readlink(f"/proc/self/fd/{file}"):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)
os.fsync = kill_at_second
"""
    done = child(body, *names, "-o", "out")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "out/a.png\n"
    assert level("out/a.png") == 245
    partial, whole = files("out")
    assert whole == "a.png"
    assert partial.startswith(".b.png.")
    assert partial.endswith(".partial")


def test_a_name_as_long_as_the_file_system_takes(folder: Path, network: Inverter):
    name = "\u00e9" * 125 + ".png"  # 254 bytes
    picture("a.png").rename(name)
    assert maxim_run(name, "-o", "out").exit_code == 0
    assert files("out") == [name]


def test_a_full_disk_fails_the_file_and_leaves_nothing_of_it(folder: Path):
    picture("a.png")
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save("b.png")
    picture("c.png")
    body = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))"
    )
    done = child(body, "a.png", "b.png", "c.png", "-o", "out")
    assert done.returncode == 1
    assert "image 'b.png' | output 'out/b.png' | cannot be written: File too large" in done.stderr
    assert files("out") == ["a.png", "c.png"]
    assert level("out/a.png") == level("out/c.png") == 245


# A test run in the background may have been started with the signal ignored.
WAITING = "signal.signal(signal.SIGINT, signal.default_int_handler)"
ENDS = {"SIGINT": "Interrupted", "SIGTERM": "Stopped by SIGTERM", "SIGHUP": "Stopped by SIGHUP"}


def stopped_in_the_second_of_three(*names: str) -> subprocess.CompletedProcess[str]:
    """A run that gets these signals while its second image of three is in the network."""
    raised = ", ".join(f"signal.raise_signal(signal.{name})" for name in names)
    body = f"{WAITING}; inverter.on_call = lambda call: call == 2 and [{raised}]"
    return child(body, *(str(picture(f"{name}.png")) for name in "abc"), "-o", "out")


@pytest.mark.parametrize(("name", "ending"), ENDS.items())
def test_interrupted_finishes_the_current_file(folder: Path, name: str, ending: str):
    done = stopped_in_the_second_of_three(name)
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stderr.startswith("interrupted: finishing the current image or frame; press Ctrl-C")
    assert "2 restored" in done.stderr
    assert done.stderr.endswith(f"{ending}\n")
    assert done.stdout == "out/a.png\nout/b.png\n"
    assert files("out") == ["a.png", "b.png"]


@pytest.mark.parametrize("names", [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT")])
def test_interrupted_twice_stops_at_once(folder: Path, names: tuple[str, str]):
    done = stopped_in_the_second_of_three(*names)
    assert (done.returncode, done.stdout) == (130, "out/a.png\n")
    assert done.stderr.endswith("Interrupted\n")
    assert files("out") == ["a.png"]


@pytest.mark.parametrize("names", [("SIGHUP", "SIGHUP"), ("SIGTERM", "SIGHUP")])
def test_a_terminal_that_closes_is_one_interruption(folder: Path, names: tuple[str, str]):
    done = stopped_in_the_second_of_three(*names)
    assert done.returncode == 128 + getattr(signal, names[0])
    assert files("out") == ["a.png", "b.png"]


def test_a_stdout_that_breaks_costs_not_what_is_in_the_network(folder: Path):
    """As when a terminal closes: it sends SIGHUP, and whatever is written to it is an error."""
    body = """
def refuse(line):
    raise OSError(5, "Input/output error")
sys.stdout.write = refuse
"""
    names = [str(picture(f"{name}.png")) for name in "abcd"]
    done = child(body, *names, "-o", "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("Error: standard output | cannot be written: Input/output") == 1
    assert files("out") in (["a.png"], ["a.png", "b.png"])
    body += "inverter.on_call = lambda call: signal.raise_signal(signal.SIGHUP)"
    done = child(body, *names, "-o", "out")
    assert done.returncode == 128 + signal.SIGHUP
    assert done.stderr.endswith("Stopped by SIGHUP\n")


def test_a_signal_that_is_ignored_stays_ignored(folder: Path):
    names = [str(picture(name)) for name in ("a.png", "b.png")]
    body = (
        "signal.signal(signal.SIGINT, signal.SIG_IGN); "
        "inverter.on_call = lambda call: signal.raise_signal(signal.SIGINT)"
    )
    done = child(body, *names, "-o", "out")
    assert (done.returncode, files("out")) == (0, ["a.png", "b.png"])


def test_the_demo_network_end_to_end(folder: Path, demo_bundle: Path):
    rgb = np.random.default_rng(0).integers(0, 256, (70, 45, 3), dtype=np.uint8)
    for name in ("in/a.png", "in/b.bmp"):
        Path("in").mkdir(exist_ok=True)
        Image.fromarray(rgb).save(name)
    Path("in/c.png").write_bytes(b"not an image")
    code = "from maxim_deploy.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(demo_bundle), "in", "-o", "out", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "2 restored, 1 failed" in done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["output"] for record in records] == ["out/a.png", "out/b.png", None]
    with maxim_deploy.load(demo_bundle) as restorer:
        expected = restorer(rgb)
    assert not np.array_equal(expected, rgb)
    for name in ("out/a.png", "out/b.png"):
        assert np.array_equal(read_image(Path(name)).rgb, expected)


# How it would run


def test_plans(demo_bundle: Path, folder: Path) -> None:
    picture("a.png", size=(90, 40))
    picture("b.png", size=(1000, 700))
    options = ["--plan", "--max-memory", "100TB"]
    result = CliRunner().invoke(run, [str(demo_bundle), "a.png", "none.png", "b.png", *options])
    assert result.exit_code == 1 and "'none.png'" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("a.png 40x90: whole, ") and "(onnxruntime, fp32)" in lines[0]
    assert lines[1].startswith("b.png 700x1000: whole, ")
    arguments = [str(demo_bundle), "b.png", "--plan", "--tile", "256", "--json"]
    (line,) = CliRunner().invoke(run, arguments).stdout.splitlines()
    record = json.loads(line)
    assert record["input"] == "b.png" and record["tile"] == [256, 256] and record["tiles"] == 20
    assert record["padded"] == [704, 1024] and record["bytes"] > 0
    assert record["batch"] == record["together"] >= 1  # the key of before stays
    (line,) = CliRunner().invoke(run, [*arguments, "--ensemble"]).stdout.splitlines()
    assert json.loads(line)["bytes"] == record["bytes"] + 12 * 704 * 1024
    small = [str(demo_bundle), "b.png", "--plan", "--max-memory", "1MB"]
    result = CliRunner().invoke(run, small)
    assert result.exit_code == 1 and "even tiles of 128x128 do not fit" in result.stderr
    assert files(".") == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("names", "options", "planned"),
    [
        (("plan/a.png",), ("plan/a.png",), ["plan/a.png"]),
        (("plan/a.png", "b.png"), (".", "--recursive"), ["b.png", "plan/a.png"]),
        (("b.png", "b.jpg"), ("b.png", "b.jpg"), ["b.png", "b.jpg"]),
        (("b.png",), ("b.png", "./b.png", "../{folder}/b.png"), ["b.png"]),
        (("plan/a.png", "b.png"), (".", "--recursive", "-o", "plan"), ["b.png"]),
    ],
)
def test_a_plan_without_an_output_knows_of_none(
    demo_bundle: Path, folder: Path, names, options, planned: list[str]
):
    for name in names:
        picture(name)
    arguments = [option.format(folder=folder.name) for option in options]
    result = CliRunner().invoke(run, [str(demo_bundle), *arguments, "--plan"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == planned


def test_a_plan_with_an_output_finds_what_is_wrong_with_it(demo_bundle: Path, folder: Path):
    for name in ("a.png", "b.png", "b.jpg"):
        picture(name)
    for arguments, words in (
        (["a.png", "-o", "out.xyz"], "output 'out.xyz' | suffix '.xyz'"),
        (["a.png", "-o", "a.png"], "output 'a.png' would overwrite an input"),
        (["b.png", "b.jpg", "-o", "out"], "output 'out/b.png' is claimed by 'b.jpg' too"),
    ):
        result = CliRunner().invoke(run, [str(demo_bundle), *arguments, "--plan"])
        assert result.exit_code and words in result.stderr
    assert files(".") == ["a.png", "b.jpg", "b.png"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (OSError("it went away"), "it went away"),
        (BackendError("it broke"), "it broke"),
    ],
)
def test_a_plan_in_json_has_a_record_of_what_fails_too(
    folder: Path, network: Inverter, monkeypatch: pytest.MonkeyPatch, error, words: str
):
    @dataclass
    class Whole:
        height: int
        batch: int = 1

    def plan(height: int, width: int, *, self_ensemble: bool) -> Whole:
        assert not self_ensemble
        if width == 7:
            raise error
        return Whole(height)

    monkeypatch.setattr(network, "plan", plan, raising=False)
    picture("a.png", size=(7, 5))
    picture("b.png", size=(6, 4))
    Path("c.png").write_bytes(b"no picture")
    result = maxim_run("a.png", "b.png", "c.png", "none.png", "--plan", "--json")
    records = {record["input"]: record for record in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1 and len(records) == 4
    assert records["a.png"]["error"] == f"image 'a.png' | {words}"
    assert records["b.png"] == {"input": "b.png", "height": 4, "batch": 1, "together": 1}
    assert "damaged or not an image" in records["c.png"]["error"]
    assert records["none.png"]["status"] == "failed"
