"""`maxim-run` on videos: what is kept, what ends early, and what stays whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from cli.running import INVERTING, ROOT, TESTS, child, maxim_run
from clips import VARIABLE, assert_inverted, clip, cut, shown
from inverter import Inverter, files, level, picture

import maxim_deploy
from maxim_deploy.imaging.video import CODECS

RESUMED = ".maxim-run.jsonl"


# What is kept


def test_a_folder_means_images_and_videos(folder: Path, network: Inverter):
    for name in ("a.mov", "b.mkv", "c.m4v", "d.MP4"):
        clip(f"in/{name}", (0, 3600), sound=False)
    clip("in/e.avi", (0, 1), codec="mpeg4", sound=False, time_base=Fraction(1, 25))
    picture("in/a.png")
    Path("in/notes.txt").touch()
    result = maxim_run("in", "-o", "out")
    assert (result.exit_code, result.stderr.count("skipped 1 of other suffixes")) == (0, 1)
    names = ["a.mov", "a.png", "b.mkv", "c.mp4", "d.mp4", "e.mkv"]
    assert sorted(result.stdout.split()) == [f"out/{name}" for name in names]
    assert files("out") == names
    assert level("out/a.png") == 245
    assert maxim_run("in/*.m*", "-o", "more").stdout.split() == [
        "more/a.mov",
        "more/b.mkv",
        "more/c.mp4",
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_codecs(folder: Path, network: Inverter, codec: str):
    import av

    clip("clip.mkv", sound=False)
    assert maxim_run("clip.mkv", "-o", "out.mkv", "--codec", codec).exit_code == 0
    with av.open("out.mkv") as made:
        name = made.streams.video[0].codec_context.name
    assert name == codec
    assert [time for time, _ in shown("out.mkv")] == [time for time, _ in shown("clip.mkv")]


def test_streams_are_dropped(folder: Path, network: Inverter):
    import av

    clip("clip.mkv", (0, 3600), subtitles=True)
    refused = maxim_run("clip.mkv", "-o", "out.mp4")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "write .mkv, or leave it out with --drop subtitles" in refused.stderr
    assert maxim_run("clip.mkv", "-o", "out.mp4", "--drop", "subtitles, data").exit_code == 0
    with av.open("out.mp4") as made:
        assert [stream.type for stream in made.streams][:2] == ["video", "audio"]


def test_options_reach_the_frames(folder: Path, network: Inverter):
    clip("clip.mp4", (0, 3600))
    maxim_run("clip.mp4", "-o", "out", "--ensemble", "--rounding", "truncate")
    assert network.calls == ["truncate ensemble"] * 2


def test_a_record_of_a_video(folder: Path, network: Inverter):
    clip("clip.mp4")
    (line,) = maxim_run("clip.mp4", "-o", "out", "--json").stdout.splitlines()
    record = json.loads(line)
    assert 0 < record.pop("network_seconds") < record["seconds"]
    assert record.pop("fps") == pytest.approx(8 / record.pop("seconds"))
    assert record == {
        "input": "clip.mp4",
        "output": "out/clip.mp4",
        "status": "restored",
        "error": None,
        "height": 32,
        "width": 48,
        "frames": 8,
        "left_out": [],
    }


def test_resume(folder: Path, network: Inverter):
    clip("clip.mp4")
    picture("a.png")
    arguments = ("clip.mp4", "a.png", "-o", "out", "--resume")
    assert maxim_run(*arguments).exit_code == 0
    assert len(network.calls) == 9
    again = maxim_run(*arguments)
    assert (again.exit_code, len(network.calls)) == (0, 9)
    assert "2 finished before" in again.stderr
    other = maxim_run(*arguments, "--crf", "30")  # of videos
    assert (other.exit_code, len(network.calls)) == (0, 17)
    assert "1 restored, 1 finished before" in other.stderr


def test_plan_says_how_a_frame_would_run(folder: Path, demo_bundle: Path):
    from click.testing import CliRunner

    from maxim_deploy.cli.run import run

    clip("clip.mp4", (0, 3600), rotation=(90, False))
    Path("bad.mp4").write_bytes(b"no video")
    done = CliRunner().invoke(run, [str(demo_bundle), "clip.mp4", "bad.mp4", "--plan"])
    assert done.exit_code == 1
    assert done.stdout.startswith("clip.mp4 48x32: whole, ")
    assert "failed: video 'bad.mp4' | is not a video" in done.stderr
    assert files(".") == ["bad.mp4", "clip.mp4"]


# What is refused


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["clip.mp4", "-o", "out.png"], 2, "suffix '.png' | videos are written as .mp4, .mov"),
        (["clip.mp4", "-o", "out.mp3"], 2, "(did you mean '.mp4'?)"),
        (["a.png", "-o", "out.mp4"], 2, "suffix '.mp4' (did you mean '.bmp'?) | the formats"),
        (["clip.mp4", "-o", "out", "--codec", "vp9"], 2, "'vp9' is not one of 'h264'"),
        (["clip.mp4", "-o", "out", "--drop", "sound"], 2, "known: audio, subtitles, data"),
        (["clip.mp4", "-o", "out", "--crf", "52"], 2, "CRF 52 | expected 0 (best) to 51"),
        (["clip.mp4", "-o", "out", "--codec", "ffv1", "--crf", "9"], 2, "takes no CRF"),
        (["clip.mp4", "-o", "clip.mp4"], 1, "'clip.mp4' would overwrite an input"),
        (["clip.mp4", "x/clip.m4v", "-o", "out"], 1, "claimed by 'x/clip.m4v' too"),
        (["none.mp4", "-o", "out"], 1, "video 'none.mp4' | cannot be read: No such file"),
    ],
)
def test_usage_and_names_are_checked_first(
    folder: Path, network: Inverter, args: list[str], code: int, words: str
):
    clip("clip.mp4", (0,))
    clip("x/clip.m4v", (0,))
    picture("a.png")
    result = maxim_run(*args)
    assert (result.exit_code, network.loaded) == (code, [])
    assert words in result.stderr


def test_bad_videos_do_not_stop_the_others(folder: Path, network: Inverter):
    clip("in/a.mp4", (0, 3600))
    Path("in/b.mp4").write_bytes(b"no video at all")
    Path("in/c.mp4").write_bytes(b"")
    cut(clip("in/d.mp4"), 0.6)  # what it holds is said at its end
    clip("in/e.mkv", (0, 3600), subtitles=True)
    picture("in/f.png")
    result = maxim_run("in", "-o", "out")
    assert result.exit_code == 1
    for words in (
        "video 'in/b.mp4' | is not a video, or its header is incomplete: Invalid data",
        "video 'in/c.mp4' | the file is empty",
        "video 'in/d.mp4' | is not a video, or its header",
    ):
        assert result.stderr.count(words) == 1
    assert result.stdout.split() == ["out/a.mp4", "out/e.mkv", "out/f.png"]
    assert files("out") == ["a.mp4", "e.mkv", "f.png"]


def test_without_pyav_the_pip_line_and_the_other_files(
    folder: Path, network: Inverter, monkeypatch: pytest.MonkeyPatch
):
    clip("in/a.mp4", (0,))
    picture("in/b.png")
    monkeypatch.setitem(sys.modules, "av", None)
    result = maxim_run("in", "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/b.png\n")
    words = "video 'in/a.mp4' | av is not installed; run: pip install 'maxim-deploy[video]'"
    assert words in result.stderr


# What ends early


def test_a_bug_leaves_nothing_half(folder: Path, network: Inverter):
    def fail_at_fourth(call: int) -> None:
        if call == 4:
            raise ZeroDivisionError("a bug")

    network.on_call = fail_at_fourth
    clip("a.mp4")
    result = maxim_run("a.mp4", "-o", "out")
    assert result.exit_code == 1
    assert "this is a bug in maxim-deploy" in result.stderr
    assert files("out") == []


# In a process of its own: signals and limits


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted_stops_after_the_frame(folder: Path, name: str):
    clip("a.mp4")
    clip("b.mp4")
    body = (
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"inverter.on_call = lambda call: call == 3 and signal.raise_signal(signal.{name})"
    )
    done = child(body, "a.mp4", "b.mp4", "-o", "out")
    assert (done.returncode, done.stdout) == (128 + getattr(signal, name), "")
    assert done.stderr.startswith("interrupted: finishing the current image or frame")
    assert "video 'a.mp4' | interrupted | 3 of about 8 frames were restored" in done.stderr
    assert done.stderr.endswith(("Interrupted\n", "Stopped by SIGTERM\n"))
    assert files("out") == ["a.incomplete.mp4"]
    assert_inverted("out/a.incomplete.mp4", VARIABLE[:3], of=8)


def test_interrupted_twice_stops_at_once(folder: Path):
    clip("a.mp4")
    body = """
signal.signal(signal.SIGINT, signal.default_int_handler)
def interrupt_twice(call):
    if call == 3:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
inverter.on_call = interrupt_twice
"""
    done = child(body, "a.mp4", "-o", "out")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.endswith("Interrupted\n")
    assert files("out") == []


def test_killed_while_writing_leaves_a_hidden_file_only(folder: Path):
    clip("a.mp4")
    body = "inverter.on_call = lambda call: call == 6 and os.kill(os.getpid(), signal.SIGKILL)"
    done = child(body, "a.mp4", "-o", "out", "--resume")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    (left,) = files("out")
    assert left.startswith(".a.mp4.")
    assert left.endswith(".partial")
    again = child("", "a.mp4", "-o", "out", "--resume")
    assert (again.returncode, again.stdout) == (0, "out/a.mp4\n")
    assert_inverted("out/a.mp4", VARIABLE)
    taken = child("", "out", "-o", "more")  # what is left is no input either
    assert (taken.returncode, files("more")) == (0, ["a.mp4"])


def test_a_full_disk_fails_the_video_and_leaves_nothing_of_it(folder: Path):
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
    clip("a.mp4", tuple(range(0, 40 * 3600, 3600)), frames=noise, size=(96, 64))
    picture("b.png")
    body = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (99999, 99999))"
    )
    done = child(body, "a.mp4", "b.png", "-o", "out", "--crf", "0")
    assert done.returncode == 1
    assert "video 'a.mp4' | output 'out/a.mp4' | cannot be written: File too large" in done.stderr
    assert files("out") == ["b.png"]


def test_two_processes_in_one_folder_do_no_harm(folder: Path):
    for name in ("in/a.mp4", "in/b.mkv"):
        clip(name)
    code = INVERTING.format(tests=str(TESTS), body="")
    command = [sys.executable, "-c", code, "bundle", "in", "-o", "out", "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pair = [subprocess.Popen(command, env=environment, **streams) for _ in range(2)]
    for process in pair:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, len(out.split())) == (0, 2), err.decode()
    assert files("out") == [RESUMED, "a.mp4", "b.mkv"]
    assert_inverted("out/a.mp4", VARIABLE)
    assert "0 restored, 2 finished before" in child("", "in", "-o", "out", "--resume").stderr


def test_the_demo_network_end_to_end(folder: Path, demo_bundle: Path):
    import av
    import numpy as np

    noise = np.random.default_rng(0).integers(60, 196, (3, 32, 48, 3), dtype=np.uint8)
    clip("clip.mkv", (0, 3600, 9000), frames=noise, codec="ffv1", pixel_format="yuv444p")
    code = "from maxim_deploy.cli.main import main; main()"
    arguments = ["run", str(demo_bundle), "clip.mkv", "-o", "out.mkv", "--codec", "ffv1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "out.mkv\n"), done.stderr
    with av.open("clip.mkv") as source, av.open("out.mkv") as made:
        before = [frame.to_ndarray(format="rgb24", threads=1) for frame in source.decode(video=0)]
        after = [frame.to_ndarray(format="rgb24", threads=1) for frame in made.decode(video=0)]
    with maxim_deploy.load(demo_bundle) as restorer:
        expected = [restorer(frame) for frame in before]
    assert not np.array_equal(expected[0], before[0])
    differences = np.abs(np.stack(after).astype(int) - np.stack(expected))
    assert differences.max() <= 3  # of YCbCr with 8 bits
    assert differences.mean() < 1


def test_the_codecs_are_those_of_the_room():
    from maxim_deploy.cli.run import _CODECS

    assert tuple(CODECS) == _CODECS


def test_the_help_names_the_kinds_of_streams():
    from maxim_deploy.cli.run import run
    from maxim_deploy.imaging.video import KINDS

    (help_text,) = [option.help for option in run.params if option.name == "drop"]
    assert ", ".join(KINDS) in help_text
