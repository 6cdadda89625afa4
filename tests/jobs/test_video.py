"""Restoring videos from Python: what is kept, what ends early, and what stays whole."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import carrying
import numpy as np
import pytest
from clips import VARIABLE, assert_inverted, clip, cut, levels, packets, shown
from inverter import Inverter, files, picture

from maxim_deploy import (
    BackendError,
    CancelledError,
    FileProgress,
    FileResult,
    UsageError,
    VideoEncoding,
    VideoError,
    restore_file,
    restore_files,
)
from maxim_deploy.imaging.video import VideoReader, result
from maxim_deploy.jobs import video
from maxim_deploy.jobs.record import NAME


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[VideoReader]:
    """The readers that a test opens."""
    readers: list[VideoReader] = []

    class Reader(VideoReader):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            readers.append(self)

    monkeypatch.setattr(video, "VideoReader", Reader)
    return readers


def assert_closed(readers: list[VideoReader]) -> None:
    for reader in readers:
        with pytest.raises(AssertionError, match="Container is not open"):
            reader.container.dumps_format()  # type: ignore[attr-defined]


# What is kept


@pytest.mark.parametrize(("memory", "waiting"), [(0, 0), (10**9, video.ROOM)])
def test_frames_wait_where_there_is_memory(folder, inverter, monkeypatch, memory, waiting):
    clip("clip.mp4")
    inverter.room, rooms = memory, []
    for name in ("produce_ahead", "consume_behind"):
        real = getattr(video, name)
        monkeypatch.setattr(
            video, name, lambda what, room, real=real: rooms.append(room) or real(what, room)
        )
    restore_file(inverter, "clip.mp4", "out.mp4")
    assert rooms == [waiting] * 2
    assert_inverted("out.mp4", VARIABLE)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out/clip.mkv"])
def test_frames_times_and_sound(folder: Path, inverter: Inverter, name: str):
    clip("clip.mp4")
    result = restore_file(inverter, "clip.mp4", name)
    assert inverter.calls == ["nearest"] * len(VARIABLE)
    assert_inverted(name, None if name.endswith(".mkv") else VARIABLE)  # Matroska counts in ms
    assert [data for _, data in packets(name, "audio")] == [
        data for _, data in packets("clip.mp4", "audio")
    ]
    assert (result.output, result.status) == (name, "restored")
    assert (result.height, result.width, result.frames) == (32, 48, 8)
    assert 0 < result.network_seconds < result.seconds
    assert result.fps == pytest.approx(8 / result.seconds)


def test_a_better_quality_is_a_larger_file(folder: Path, inverter: Inverter):
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    clip("clip.mp4", (0, 3600, 7200), frames=noise, sound=False)
    sizes = []
    for crf in (5, 16, 40):
        restore_file(inverter, "clip.mp4", f"{crf}.mp4", encoding=VideoEncoding(crf=crf))
        sizes.append(Path(f"{crf}.mp4").stat().st_size)
    restore_file(inverter, "clip.mp4", "default.mp4")
    assert sizes == sorted(sizes, reverse=True)
    assert Path("default.mp4").stat().st_size == sizes[1]


def test_ten_bits_stay_ten(folder: Path, inverter: Inverter):
    import av

    types: list[object] = []
    clip("clip.mp4", (0, 3600), pixel_format="yuv420p10le")
    inverter.on_image = lambda image: types.append(image.dtype)
    restore_file(inverter, "clip.mp4", "out/clip.mp4")
    assert types == [np.uint16] * 2
    with av.open("out/clip.mp4") as made:
        assert made.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
    assert_inverted("out/clip.mp4", (0, 3600))


def test_ten_bits_are_refused_where_8_would_be_left(folder: Path, inverter: Inverter):
    def refuse(image: object) -> None:
        raise UsageError("this bundle has the image form only, which takes uint8")

    clip("clip.mp4", (0, 3600), pixel_format="yuv420p10le")
    inverter.on_image = refuse
    (result,) = restore_files(inverter, "clip.mp4", "out")
    assert (
        result.error == "video 'clip.mp4' | this bundle has the image form only, which takes uint8"
    )
    assert files("out") == []


def test_before_and_after_side_by_side(folder: Path, inverter: Inverter):
    import av

    clip("clip.mp4")
    restore_file(inverter, "clip.mp4", "out/clip.mp4", compare=True)
    assert files("out") == ["clip.before-after.mp4", "clip.mp4"]
    with av.open("out/clip.before-after.mp4") as both:
        assert len(both.streams) == 1
        frames = [frame.to_ndarray(format="rgb24", threads=1) for frame in both.decode(video=0)]
    assert len(frames) == len(VARIABLE)
    assert frames[0].shape == (32, 96, 3)
    for frame, before in zip(frames, levels(8), strict=True):
        assert abs(int(frame[16, 24, 0]) - before) <= 2
        assert abs(int(frame[16, 72, 0]) - (255 - before)) <= 2


# What is refused


def test_what_is_kept_of_a_failure_overwrites_no_input(folder: Path, inverter: Inverter):
    names = [clip(name, (0,)) for name in ("clip.mp4", "out/clip.incomplete.mp4")]
    results = list(restore_files(inverter, names, "out"))
    assert "'clip.mp4' | output 'out/clip.incomplete.mp4' is claimed by" in results[0].error
    assert inverter.calls == []


def test_a_container_that_cannot_hold_a_stream(folder: Path, inverter: Inverter):
    clip("clip.mkv", subtitles=True)
    words = r"output 'out\.mp4' \| \.mp4 cannot hold stream 2 \(subtitle in .* write \.mkv"
    with pytest.raises(VideoError, match=words):
        restore_file(inverter, "clip.mkv", "out.mp4")
    assert (inverter.calls, files(".")) == ([], ["clip.mkv"])


# What a result is


def test_a_result_that_cannot_be_read_is_none(
    folder: Path, inverter: Inverter, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: Path) -> None:
        raise VideoError(f"video '{path}' | has no frames")

    clip("clip.mp4", (0, 3600))
    monkeypatch.setattr(result, "VideoReader", refuse)
    words = "output 'out/a.mp4' . was written, but cannot be read: has no frames"
    with pytest.raises(VideoError, match=words):
        restore_file(inverter, "clip.mp4", "out/a.mp4")
    assert files("out") == []


def test_what_a_result_lacks_is_said_once(
    folder: Path, inverter: Inverter, caplog: pytest.LogCaptureFixture
):
    carrying.elementary("a.h264", carrying.CAPTIONS)
    encoding = VideoEncoding("ffv1")
    result = restore_file(inverter, "a.h264", "a.mkv", encoding=encoding, compare=True)
    assert result.left_out == ["closed captions"]
    assert caplog.messages == ["video 'a.h264': left out: closed captions"]


# What is left out on request


def kinds(path: str) -> list[str]:
    import av

    with av.open(path) as container:
        return [stream.type for stream in container.streams]


@pytest.mark.parametrize(
    ("drop", "left"),
    [
        ([], ["video", "audio", "subtitle"]),
        (["subtitles"], ["video", "audio"]),
        (("audio", "subtitles", "data"), ["video"]),
    ],
)
def test_streams_are_dropped(
    folder: Path, inverter: Inverter, caplog: pytest.LogCaptureFixture, drop, left: list[str]
):
    clip("clip.mkv", (0, 3600), subtitles=True)
    restore_file(inverter, "clip.mkv", "out.mkv", drop=drop)
    assert kinds("out.mkv") == left
    assert caplog.messages == []
    if "subtitles" in drop:
        restore_file(inverter, "clip.mkv", "out.mp4", drop=drop)
        assert kinds("out.mp4") == [*left, "data"]  # the chapters


def test_what_is_dropped_belongs_to_the_result(folder: Path, inverter: Inverter):
    clip("clip.mkv", (0, 3600), subtitles=True)
    statuses = [
        result.status
        for drop in ([], ["audio"], ["audio"], [])
        for result in restore_files(inverter, "clip.mkv", "out", resume=True, drop=drop)
    ]
    assert statuses == ["restored", "restored", "finished", "restored"]


def test_an_unknown_kind_of_streams(folder: Path, inverter: Inverter):
    clip("clip.mkv", (0,))
    with pytest.raises(UsageError, match="'sound'; known: audio, subtitles, data"):
        restore_files(inverter, "clip.mkv", "out", drop=["sound"])


# What is known by its content


def test_a_file_whose_name_says_nothing(folder: Path, inverter: Inverter):
    clip("in/a.mp4").rename("recording")
    assert restore_file(inverter, "recording", "out.mp4").frames == len(VARIABLE)
    (result,) = restore_files(inverter, "recording", "out")
    assert result.output == "out/recording.mkv"
    Path("recording").rename("in/recording")
    with pytest.raises(UsageError, match="no image or video files in there; skipped 1"):
        restore_files(inverter, "in", "out")


# What ends early


@pytest.mark.parametrize(
    ("name", "options"), [("clip.mkv", {}), ("clip.mp4", {"movflags": "faststart"})]
)
def test_a_video_that_is_cut_off(folder: Path, inverter: Inverter, name: str, options):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    pts = tuple(range(0, 20 * 9000, 9000))
    cut(clip(name, pts, frames=noise, container_options=options), 0.6)
    (result,) = restore_files(inverter, name, "out", resume=True)
    kept = f"out/clip.incomplete{Path(name).suffix}"
    assert (result.status, result.output) == ("failed", None)
    assert 5 < (result.frames or 0) < 16
    assert f" | {result.frames} of about " in (result.error or "")
    assert (result.error or "").endswith(f"they are in '{kept}'")
    assert isinstance(result.cause, VideoError)
    assert json.loads(json.dumps(result.to_json()))["error"] == result.error == str(result.cause)
    assert files("out") == [NAME, Path(kept).name]
    assert [time for time, _ in shown(kept)] == list(pts[: result.frames])
    assert len(packets(kept, "audio")) > 3
    clip(name)  # whole now
    assert [r.status for r in restore_files(inverter, name, "out", resume=True)] == ["restored"]
    assert files("out") == [NAME, name]


def test_a_damaged_frame_costs_no_other(folder: Path, inverter: Inverter):
    pts = tuple(range(0, 10 * 9000, 9000))
    path = clip("clip.mov", pts, codec="png", pixel_format="rgb24", sound=False)
    content = path.read_bytes()
    fourth = [match.start() for match in re.finditer(b"\x89PNG", content)][3]
    path.write_bytes(content[:fourth] + b"\0" * 8 + content[fourth + 8 :])
    words = r"1 of its packets cannot be decoded \| 9 of about 10 frames"
    with pytest.raises(VideoError, match=words):
        restore_file(inverter, "clip.mov", "out/clip.mov")
    assert [time for time, _ in shown("out/clip.incomplete.mov")] == [*pts[:3], *pts[4:]]


def test_a_stream_that_a_damaged_file_announces_late_stops_nothing_else(
    folder: Path, inverter: Inverter
):
    path = clip("a.flv", range(0, 400 * 3600, 3600), sound=False)
    content, tags, at = bytearray(path.read_bytes()), [], 13
    while at < len(content):
        tags.append(at)
        at += 15 + int.from_bytes(content[at + 1 : at + 4])
    content[tags[-4]] = 8  # was 9, video; of sound nothing was said when the file was opened
    path.write_bytes(content)
    first, second = restore_files(inverter, ["a.flv", picture("b.png")], "out")
    assert "it has a stream that its header does not name" in (first.error or "")
    assert second.status == "restored"
    assert files("out") == ["a.incomplete.mkv", "b.png"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(BackendError("it broke"), "it broke"), (MemoryError(), "not enough memory")],
)
def test_a_network_that_fails_on_the_way(folder: Path, inverter: Inverter, error, words: str):
    def fail_at_fourth(call: int) -> None:
        if call == 4:
            raise error

    inverter.on_call = fail_at_fourth
    inputs = [clip("a.mp4"), picture("b.png")]
    first, second = restore_files(inverter, inputs, "out", compare=True)
    assert first.error == (
        f"video 'a.mp4' | {words} | 3 of about 8 frames were restored; "
        "they are in 'out/a.incomplete.mp4'"
    )
    assert second.output == "out/b.png"
    assert files("out") == ["a.incomplete.mp4", "b.before-after.png", "b.png"]
    assert_inverted("out/a.incomplete.mp4", VARIABLE[:3], of=8)


def test_a_network_that_fails_at_once_leaves_nothing(folder: Path, inverter: Inverter):
    def fail(_: int) -> None:
        raise BackendError("it broke")

    inverter.on_call = fail
    clip("a.mp4")
    (result,) = restore_files(inverter, "a.mp4", "out")
    assert result.error == "video 'a.mp4' | it broke"
    assert isinstance(result.cause, BackendError)
    assert files("out") == []


def test_cancelling_stops_after_the_frame_and_keeps_what_there_is(
    folder: Path, inverter: Inverter, opened: list[VideoReader]
):
    cancel = threading.Event()
    inverter.on_call = lambda call: call == 3 and cancel.set()
    inputs = [clip("a.mp4"), clip("b.mp4")]
    (result,) = restore_files(inverter, inputs, "out", cancel=cancel)
    assert (result.status, result.frames) == ("failed", 3)
    assert isinstance(result.cause, CancelledError)
    assert files("out") == ["a.incomplete.mp4"]
    assert_inverted("out/a.incomplete.mp4", VARIABLE[:3], of=8)
    assert_closed(opened)
    cancel.clear()
    words = r"'b\.mp4' \| interrupted \| 5 of about 8 frames .* 'c\.incomplete\.mp4'"
    with pytest.raises(CancelledError, match=words):
        restore_file(
            inverter,
            "b.mp4",
            "c.mp4",
            progress=lambda step: step.frames_done == 5 and cancel.set(),
            cancel=cancel,
        )
    assert_inverted("c.incomplete.mp4", VARIABLE[:5], of=8)


def test_cancelling_before_the_first_frame_leaves_nothing(folder: Path, inverter: Inverter):
    cancel = threading.Event()
    clip("a.mp4")
    with pytest.raises(CancelledError):
        restore_file(inverter, "a.mp4", "b.mp4", progress=lambda _: cancel.set(), cancel=cancel)
    assert (inverter.calls, files(".")) == ([], ["a.mp4"])


# Progress, and results in time


def test_progress_counts_frames(folder: Path, inverter: Inverter):
    clip("a.mp4")
    steps: list[FileProgress] = []
    result = restore_file(inverter, "a.mp4", "b.mp4", progress=steps.append)
    assert steps == [
        *(FileProgress(Path("a.mp4"), 0, 1, done, 8) for done in range(9)),
        FileProgress(Path("a.mp4"), 1, 1, result=result),
    ]


def test_a_long_video_keeps_no_result_back(folder: Path, inverter: Inverter):
    inputs = [picture("a.png"), clip("b.mp4", range(0, 400 * 3600, 3600), sound=False)]
    written = threading.Event()
    inverter.on_call = lambda call: call == 2 and written.wait(10)
    results = restore_files(
        inverter, inputs, "out", progress=lambda step: step.result and written.set()
    )
    first = next(results)
    assert first.output == "out/a.png"
    assert 2 <= len(inverter.calls) < 400  # it, and a few frames
    results.close()
    assert files("out") == ["a.png"]


# What stays whole


def test_closing_the_iterator_inside_a_video_leaves_nothing_of_it(
    folder: Path, inverter: Inverter, opened: list[VideoReader]
):
    results = restore_files(inverter, [picture("a.png"), *map(clip, ("b.mp4", "c.mp4"))], "out")
    assert next(results).output == "out/a.png"
    results.close()
    # In the middle of b.mp4, or behind it: then it is written whole.
    assert files("out") in (["a.png"], ["a.png", "b.mp4"])
    assert_closed(opened)


@pytest.mark.parametrize("error", [BrokenPipeError(), KeyboardInterrupt()])
def test_whatever_ends_the_run_leaves_no_hidden_file_and_no_open_one(
    folder: Path, inverter: Inverter, opened: list[VideoReader], error
):
    """The first result cannot be told while the second waits to be renamed, the third is open."""

    def tell(step: FileProgress) -> None:
        if step.result:
            raise error

    with pytest.raises(type(error)):
        list(restore_files(inverter, [clip(f"{name}.mp4") for name in "abc"], "out", progress=tell))
    assert files("out") == ["a.mp4"]
    assert len(opened) == 3
    assert_closed(opened)


@pytest.mark.parametrize("where", ["network", "callback"])
def test_a_bug_leaves_nothing_half(
    folder: Path, inverter: Inverter, opened: list[VideoReader], where: str
):
    def tell(step: FileProgress) -> None:
        if where == "callback" and step.frames_done == 4:
            raise ZeroDivisionError

    inverter.on_call = lambda call: where == "network" and 1 // (call - 4)
    clip("a.mp4")
    with pytest.raises(ZeroDivisionError):
        restore_file(inverter, "a.mp4", "out/a.mp4", progress=tell)
    assert files("out") == []
    assert_closed(opened)


def test_two_threads_share_a_restorer(folder: Path, inverter: Inverter):
    inputs = [clip(f"{name}.mp4") for name in "abc"]
    outcomes: dict[str, list[FileResult]] = {}

    def work(out: str) -> None:
        outcomes[out] = list(restore_files(inverter, inputs, out))

    threads = [threading.Thread(target=work, args=[out]) for out in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in ("one", "two"):
        assert [result.status for result in outcomes[out]] == ["restored"] * 3
        for name in "abc":
            assert_inverted(f"{out}/{name}.mp4", VARIABLE)


def test_a_rename_that_fails_leaves_nothing_hidden(
    folder: Path, inverter: Inverter, monkeypatch: pytest.MonkeyPatch
):
    clip("clip.mp4", (0, 3600))

    def refuse(partial: Path, target: Path) -> Path:
        raise OSError(36, "File name too long", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    (result,) = restore_files(inverter, "clip.mp4", "out", compare=True)
    assert "File name too long" in str(result.error)
    assert files("out") == []


def test_frames_that_are_kept_among_inputs_are_no_input(folder: Path, inverter: Inverter):
    cut(clip("in/a.avi", tuple(range(0, 8 * 3600, 3600)), sound=False), 0.7)
    for _ in range(2):
        (result,) = restore_files(inverter, "in", "in")
        assert "they are in 'in/a.incomplete.mkv'" in str(result.error)
    assert files("in") == [NAME, "a.avi", "a.incomplete.mkv"]
