"""`maxim-run` on videos: what is kept, what ends early, and what stays whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from cli.running import INVERTING, ROOT, Inverter, child, files, level, maxim_run, picture
from clips import VARIABLE, clip, cut, levels, packets, shown

import maxim_deploy
from maxim_deploy.errors import BackendError, UsageError
from maxim_deploy.imaging.video import CODECS, VideoReader
from maxim_deploy.jobs import video
from maxim_deploy.jobs.progress import FileProgress
from maxim_deploy.jobs.restore import restore_files

RESUMED = ".maxim-run.jsonl"


def inverted(count: int) -> list[int]:
    return [255 - level for level in levels(count)]


def assert_shows(path: str, pts: tuple[int, ...], of: int | None = None) -> None:
    """Frames at these times, which are the first of a clip of `of` frames, inverted."""
    times, found = zip(*shown(path), strict=True)
    assert times == tuple(pts)
    expected = inverted(of or len(pts))
    assert all(abs(a - b) <= 2 for a, b in zip(found, expected, strict=False))


# What is kept


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out/clip.mp4"])
def test_frames_times_and_sound(folder: Path, network: Inverter, name: str):
    clip("clip.mp4")
    result = maxim_run("clip.mp4", "-o", name if name != "out/clip.mp4" else "out")
    assert (result.exit_code, result.stdout) == (0, f"{name}\n")
    assert network.calls == ["nearest"] * len(VARIABLE)
    assert_shows(name, VARIABLE)
    assert packets(name, "audio") == packets("clip.mp4", "audio")


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


def test_a_better_quality_is_a_larger_file(folder: Path, network: Inverter):
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    clip("clip.mp4", (0, 3600, 7200), frames=noise, sound=False)
    sizes = []
    for crf in ("5", "16", "40"):
        maxim_run("clip.mp4", "-o", f"{crf}.mp4", "--crf", crf)
        sizes.append(Path(f"{crf}.mp4").stat().st_size)
    maxim_run("clip.mp4", "-o", "default.mp4")
    assert sizes == sorted(sizes, reverse=True)
    assert Path("default.mp4").stat().st_size == sizes[1]


def test_options_reach_the_frames(folder: Path, network: Inverter):
    clip("clip.mp4", (0, 3600))
    maxim_run("clip.mp4", "-o", "out", "--ensemble", "--rounding", "truncate")
    assert network.calls == ["truncate ensemble"] * 2


def test_ten_bits_stay_ten(folder: Path, network: Inverter):
    import av
    import numpy as np

    types: list[object] = []
    clip("clip.mp4", (0, 3600), pixel_format="yuv420p10le")
    network.on_image = lambda image: types.append(image.dtype)
    assert maxim_run("clip.mp4", "-o", "out").exit_code == 0
    assert types == [np.uint16] * 2
    with av.open("out/clip.mp4") as made:
        assert made.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
    assert_shows("out/clip.mp4", (0, 3600))


def test_ten_bits_are_refused_where_8_would_be_left(folder: Path, network: Inverter):
    def refuse(image: object) -> None:
        raise UsageError("this runs the image form, which takes uint8")

    clip("clip.mp4", (0, 3600), pixel_format="yuv420p10le")
    network.on_image = refuse
    result = maxim_run("clip.mp4", "-o", "out")
    assert result.exit_code == 1
    assert "video 'clip.mp4' | this runs the image form, which takes uint8" in result.stderr
    assert files("out") == []


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
    }


def test_before_and_after_side_by_side(folder: Path, network: Inverter):
    import av

    clip("clip.mp4")
    result = maxim_run("clip.mp4", "-o", "out", "--compare")
    assert (result.exit_code, result.stdout) == (0, "out/clip.mp4\n")
    assert files("out") == ["clip.before-after.mp4", "clip.mp4"]
    with av.open("out/clip.before-after.mp4") as both:
        assert len(both.streams) == 1
        frames = [frame.to_ndarray(format="rgb24", threads=1) for frame in both.decode(video=0)]
    assert len(frames) == len(VARIABLE)
    assert frames[0].shape == (32, 96, 3)
    for frame, before, after in zip(frames, levels(8), inverted(8), strict=True):
        assert abs(int(frame[16, 24, 0]) - before) <= 2
        assert abs(int(frame[16, 72, 0]) - after) <= 2


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
    assert "1 restored, 0 failed, 1 finished before" in other.stderr


def test_plan_says_how_a_frame_would_run(folder: Path, demo_bundle: Path):
    from click.testing import CliRunner

    from maxim_deploy.cli.run import run

    clip("clip.mp4", (0, 3600), rotation=(90, False))
    Path("bad.mp4").write_bytes(b"no video")
    done = CliRunner().invoke(run, [str(demo_bundle), "clip.mp4", "bad.mp4", "--plan"])
    assert done.exit_code == 1
    assert done.stdout.startswith("clip.mp4 48x32: whole, ")
    assert "failed: video 'bad.mp4' | is no video" in done.stderr
    assert files(".") == ["bad.mp4", "clip.mp4"]


# What is refused


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["clip.mp4", "-o", "out.png"], 2, "suffix '.png' | videos are written as .mp4, .mov"),
        (["clip.mp4", "-o", "out.mp3"], 2, "(did you mean '.mp4'?)"),
        (["a.png", "-o", "out.mp4"], 2, "suffix '.mp4' (did you mean '.bmp'?) | the formats"),
        (["clip.mp4", "-o", "out", "--codec", "vp9"], 2, "'vp9' is not one of 'h264'"),
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


def test_what_is_kept_of_a_failure_overwrites_no_input(folder: Path, network: Inverter):
    for name in ("clip.mp4", "out/clip.incomplete.mp4"):
        clip(name, (0,))
    result = maxim_run("clip.mp4", "out/clip.incomplete.mp4", "-o", "out")
    assert "video 'clip.mp4' | output 'out/clip.incomplete.mp4' is claimed by" in result.stderr
    assert network.calls == []


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
        "video 'in/b.mp4' | is no video, or ends before it says what it holds: Invalid data",
        "video 'in/c.mp4' | the file is empty",
        "video 'in/d.mp4' | is no video, or ends before",
    ):
        assert result.stderr.count(words) == 2
    assert result.stdout.split() == ["out/a.mp4", "out/e.mkv", "out/f.png"]
    assert files("out") == ["a.mp4", "e.mkv", "f.png"]


def test_a_container_that_cannot_hold_a_stream(folder: Path, network: Inverter):
    clip("clip.mkv", subtitles=True)
    result = maxim_run("clip.mkv", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "output 'out.mp4' | .mp4 cannot hold stream 2 of the input, subtitle" in result.stderr
    assert "write .mkv" in result.stderr
    assert (network.calls, files(".")) == ([], ["clip.mkv"])


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


@pytest.mark.parametrize(
    ("name", "options"), [("clip.mkv", {}), ("clip.mp4", {"movflags": "faststart"})]
)
def test_a_video_that_is_cut_off(folder: Path, network: Inverter, name: str, options):
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    pts = tuple(range(0, 20 * 9000, 9000))
    cut(clip(name, pts, frames=noise, container_options=options), 0.6)
    result = maxim_run(name, "-o", "out", "--resume", "--json")
    record = json.loads(result.stdout)
    kept = f"out/clip.incomplete{Path(name).suffix}"
    assert result.exit_code == 1
    assert (record["status"], record["output"]) == ("failed", None)
    assert 5 < record["frames"] < 16
    assert f" | {record['frames']} of about " in record["error"]
    assert record["error"].endswith(f"they are in '{kept}'")
    assert files("out") == [Path(kept).name]
    assert [time for time, _ in shown(kept)] == list(pts[: record["frames"]])
    assert len(packets(kept, "audio")) > 3
    clip(name)  # whole now
    assert maxim_run(name, "-o", "out", "--resume").exit_code == 0
    assert files("out") == [RESUMED, name]


def test_a_damaged_frame_costs_no_other(folder: Path, network: Inverter):
    pts = tuple(range(0, 10 * 9000, 9000))
    path = clip("clip.mov", pts, codec="png", pixel_format="rgb24", sound=False)
    content = path.read_bytes()
    fourth = [match.start() for match in re.finditer(b"\x89PNG", content)][3]
    path.write_bytes(content[:fourth] + b"\0" * 8 + content[fourth + 8 :])
    result = maxim_run("clip.mov", "-o", "out")
    assert result.exit_code == 1
    assert "1 of its packets cannot be decoded | 9 of about 10 frames" in result.stderr
    assert [time for time, _ in shown("out/clip.incomplete.mov")] == [*pts[:3], *pts[4:]]


def test_a_stream_that_a_damaged_file_announces_late_stops_nothing_else(
    folder: Path, network: Inverter
):
    path = clip("a.flv", range(0, 400 * 3600, 3600), sound=False)
    content, tags, at = bytearray(path.read_bytes()), [], 13
    while at < len(content):
        tags.append(at)
        at += 15 + int.from_bytes(content[at + 1 : at + 4])
    content[tags[-4]] = 8  # was 9, video; of sound nothing was said when the file was opened
    path.write_bytes(content)
    picture("b.png")
    result = maxim_run("a.flv", "b.png", "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/b.png\n")
    assert "a stream begins in it that its head does not name" in result.stderr
    assert files("out") == ["a.incomplete.mkv", "b.png"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(BackendError("it broke"), "it broke"), (MemoryError(), "not enough memory")],
)
def test_a_network_that_fails_on_the_way(folder: Path, network: Inverter, error, words: str):
    def fail_at_fourth(call: int) -> None:
        if call == 4:
            raise error

    network.on_call = fail_at_fourth
    clip("a.mp4")
    picture("b.png")
    result = maxim_run("a.mp4", "b.png", "-o", "out", "--compare")
    assert (result.exit_code, result.stdout) == (1, "out/b.png\n")
    assert f"video 'a.mp4' | {words} | 3 of about 8 frames were restored" in result.stderr
    assert files("out") == ["a.incomplete.mp4", "b.before-after.png", "b.png"]
    assert_shows("out/a.incomplete.mp4", VARIABLE[:3], of=8)


def test_a_network_that_fails_at_once_leaves_nothing(folder: Path, network: Inverter):
    def fail(_: int) -> None:
        raise BackendError("it broke")

    network.on_call = fail
    clip("a.mp4")
    result = maxim_run("a.mp4", "-o", "out")
    assert "video 'a.mp4' | it broke\n" in result.stderr
    assert files("out") == []


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


def test_interrupted_stops_after_the_frame(folder: Path):
    clip("a.mp4")
    clip("b.mp4")
    body = (
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "inverter.on_call = lambda call: call == 3 and signal.raise_signal(signal.SIGINT)"
    )
    done = child(body, "a.mp4", "b.mp4", "-o", "out")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("interrupted: the current image, or frame of a video")
    assert "video 'a.mp4' | interrupted | 3 of about 8 frames were restored" in done.stderr
    assert done.stderr.endswith("Interrupted\n")
    assert files("out") == ["a.incomplete.mp4"]
    assert_shows("out/a.incomplete.mp4", VARIABLE[:3], of=8)


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
    assert_shows("out/a.mp4", VARIABLE)
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


@pytest.mark.parametrize("error", [BrokenPipeError(), KeyboardInterrupt()])
def test_whatever_ends_the_run_leaves_no_hidden_file_and_no_open_one(
    folder: Path, network: Inverter, error, monkeypatch: pytest.MonkeyPatch
):
    """The first result cannot be told while the second waits to be renamed, the third is open."""
    opened: list[VideoReader] = []

    class Reader(VideoReader):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.append(self)

    def report(progress: FileProgress) -> None:
        if progress.result:
            raise error

    monkeypatch.setattr(video, "VideoReader", Reader)
    clips = [clip(f"{name}.mp4") for name in "abc"]
    with pytest.raises(type(error)):
        list(restore_files("bundle", clips, "out", progress=report))
    assert files("out") == ["a.mp4"]
    assert len(opened) == 3
    for reader in opened:
        with pytest.raises(AssertionError, match="Container is not open"):
            reader.container.dumps_format()


def test_two_processes_in_one_folder_do_no_harm(folder: Path):
    for name in ("in/a.mp4", "in/b.mkv"):
        clip(name)
    code = INVERTING.format(tests=str(Path(__file__).parent), body="")
    command = [sys.executable, "-c", code, "bundle", "in", "-o", "out", "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    pair = [subprocess.Popen(command, env=environment, **streams) for _ in range(2)]
    for process in pair:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, len(out.split())) == (0, 2), err.decode()
    assert files("out") == [RESUMED, "a.mp4", "b.mkv"]
    assert_shows("out/a.mp4", VARIABLE)
    assert (
        "0 restored, 0 failed, 2 finished before" in child("", "in", "-o", "out", "--resume").stderr
    )


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
