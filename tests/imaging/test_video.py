"""Video files to frames and back: what is kept, what is refused, what is said to be left out."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import carrying
import numpy as np
import pytest
from clips import VARIABLE, clip, cut, levels, packets, shown
from PIL import Image

from maxim_deploy.errors import ImageError, UsageError, VideoError
from maxim_deploy.imaging.video import (
    VideoEncoding,
    VideoReader,
    VideoWriter,
    is_video,
    reading,
    result_suffix,
)

av = pytest.importorskip("av")

LUMA = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Weights of red and blue by the matrix of H.273: BT.709, BT.601, BT.2020."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copy(
    source: str | Path, target: str, encoding: VideoEncoding | None = None
) -> list[np.ndarray]:
    """Write a video's frames as they are; the frames."""
    reader = VideoReader(Path(source))
    writer = VideoWriter(Path(target), reader, Path(target), encoding or VideoEncoding("ffv1"))
    frames = []
    for frame in reader:
        writer.write(frame.rgb, frame)
        frames.append(frame.rgb)
    writer.close(reader.rest)
    reader.close()
    return frames


def planes(path: str) -> list[np.ndarray]:
    """All samples of the first frame as stored."""
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        has_over_8_bits = frame.format.components[0].bits > 8
        kind = np.uint16 if has_over_8_bits else np.uint8
        return [
            np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(int)
            for plane in frame.planes
        ]


def smooth(height: int = 32, width: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([60 + 3 * rows, 60 + 2 * columns, 180 - rows - columns], -1).astype(np.uint8)


# Time


def test_times_that_vary_and_durations():
    clip("a.mp4")
    copy("a.mp4", "b.mp4", VideoEncoding())
    assert [time for time, _ in shown("b.mp4")] == list(VARIABLE)
    with av.open("b.mp4") as made:
        durations = [frame.duration for frame in made.decode(video=0)]
        assert made.streams.video[0].time_base == Fraction(1, 90000)
    assert durations[:-1] == list(np.diff(VARIABLE))
    assert durations[-1] > 0


def test_frames_without_sound_between_them_keep_their_start():
    clip("a.mp4", (9000, 12600, 20000), sound=False)
    copy("a.mp4", "b.mp4", VideoEncoding())
    assert [time for time, _ in shown("b.mp4")] == [time for time, _ in shown("a.mp4")]


def test_a_broadcast_starts_at_zero_and_stays_in_step():
    clip("a.ts", VARIABLE)
    copy("a.ts", "b.mkv")
    (first, _), *_ = shown("a.ts")
    offset = packets("a.ts", "audio")[0][0] - first / 90000
    (start, _), *_ = shown("b.mkv")
    sound = packets("b.mkv", "audio")[0][0]
    assert min(start, sound) == 0
    assert sound - start / 90000 == pytest.approx(offset, abs=0.002)


# Colours


@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv444p10le"])
def test_rgb_by_the_matrix_and_range_of_the_file(matrix: int, color_range: int, pixel_format: str):
    tags = {"colorspace": matrix, "color_range": color_range, "color_primaries": 1, "color_trc": 13}
    frames = [smooth()] * 2
    clip("a.mkv", (0, 3600), codec="ffv1", pixel_format=pixel_format, frames=frames, **tags)
    (rgb, _) = copy("a.mkv", "b.mkv")
    has_over_8_bits = pixel_format.endswith("10le")
    assert rgb.dtype == (np.uint16 if has_over_8_bits else np.uint8)
    assert np.abs(rgb / (257 if has_over_8_bits else 1) - smooth()).max() <= 2
    # And, without the library that made the clip, from the samples as stored.
    scale = 4 if has_over_8_bits else 1
    y, u, v = (plane / scale for plane in planes("a.mkv"))
    black, span, chroma = (16, 219, 224) if color_range == 1 else (0, 255, 255)
    red_weight, blue_weight = LUMA[matrix]
    luma = (y - black) / span
    red = luma + 2 * (1 - red_weight) * (v - 128) / chroma
    blue = luma + 2 * (1 - blue_weight) * (u - 128) / chroma
    levels_of = rgb / (65535 if has_over_8_bits else 255)
    assert np.abs(levels_of[..., 0] - red).max() < 1.2 / 255
    assert np.abs(levels_of[..., 2] - blue).max() < 1.2 / 255
    with av.open("b.mkv") as made:
        context = made.streams.video[0].codec_context
        kept = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
    assert kept == tuple(tags.values())
    for before, after in zip(planes("a.mkv"), planes("b.mkv"), strict=True):
        assert np.abs(before - after).max() <= (0 if color_range == 1 else 3)


@pytest.mark.parametrize(
    "pixel_format",
    ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "gray", "gray10le"],
)
def test_bits_and_subsampling_are_kept_without_a_drift(pixel_format: str):
    clip("a.mkv", (0,), codec="ffv1", pixel_format=pixel_format, frames=[smooth()])
    copy("a.mkv", "b.mkv")
    copy("a.mkv", "c.mp4", VideoEncoding(crf=0))
    for name in ("b.mkv", "c.mp4"):
        with av.open(name) as made:
            found = made.streams.video[0].codec_context.pix_fmt
        # libav decodes grey H.264 with chroma planes that are all the same.
        is_grey_h264 = pixel_format.startswith("gray") and name == "c.mp4"
        assert found.startswith("yuv") if is_grey_h264 else found == pixel_format
        assert abs(shown(name)[0][1] - shown("a.mkv")[0][1]) <= 1
    # libswscale reads 10-bit grey by shifts, writes it by weights: half a level of 8 bits apart.
    most, drift = (2, 2) if pixel_format == "gray10le" else (1, 0.1)
    for before, after in zip(planes("a.mkv"), planes("b.mkv"), strict=True):
        assert np.abs(before - after).max() <= most
        assert abs((before - after).mean()) < drift  # libswscale's defaults: 1 and more


def test_untagged_files_stay_untagged_and_look_alike():
    for size, name in (((48, 32), "sd.mkv"), ((64, 720), "hd.mkv")):
        picture = smooth(size[1] % 97, size[0])
        picture = np.resize(picture, (size[1], size[0], 3))
        clip(name, (0,), codec="ffv1", pixel_format="yuv444p", frames=[picture], size=size)
        copy(name, "b.mkv")
        with av.open("b.mkv") as made:
            assert made.streams.video[0].codec_context.colorspace == 2
        for before, after in zip(planes(name), planes("b.mkv"), strict=True):
            assert np.abs(before - after).max() <= 1


def test_rgb_becomes_bt709():
    clip("a.mov", (0,), codec="png", pixel_format="rgb24", frames=[smooth()], sound=False)
    (rgb,) = copy("a.mov", "b.mkv")
    assert np.array_equal(rgb, smooth())
    with av.open("b.mkv") as made:
        context = made.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv444p", 1, 1)


# Size and place


@pytest.mark.parametrize(
    ("size", "expected"),
    [((47, 32), "yuv444p"), ((48, 31), "yuv444p"), ((48, 32), "yuv420p"), ((1, 1), "yuv444p")],
)
def test_odd_sides_stay_odd(size: tuple[int, int], expected: str):
    clip("a.mkv", (0,), codec="ffv1", size=size, sound=False)
    copy("a.mkv", "b.mp4", VideoEncoding())
    with av.open("b.mp4") as made:
        context = made.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (*size, expected)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_are_turned_upright(degrees: int, mirrored: bool):
    tags = {"sample_aspect_ratio": Fraction(4, 3)}
    clip(
        "a.mp4", (0,), frames=[smooth()], rotation=(degrees, mirrored), options={"crf": "1"}, **tags
    )
    (upright,) = copy("a.mp4", "b.mp4", VideoEncoding())
    expected = np.rot90(smooth(), degrees // 90)  # counter-clockwise, then mirrored
    expected = expected[:, ::-1] if mirrored else expected
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).mean() < 3
    with av.open("b.mp4") as made:
        frame = next(made.decode(video=0))
        is_turned = degrees % 180 == 90
        aspect = made.streams.video[0].sample_aspect_ratio
        assert aspect == (Fraction(3, 4) if is_turned else Fraction(4, 3))
        assert (frame.rotation, frame.height) == (0, expected.shape[0])


# What else is in a file


def test_sound_subtitles_titles_and_chapters():
    clip("a.mkv", subtitles=True)
    copy("a.mkv", "b.mkv")
    with av.open("a.mkv") as source, av.open("b.mkv") as made:
        assert [s.type for s in made.streams] == [s.type for s in source.streams]
        assert [s.metadata.get("language") for s in made.streams] == ["ita", "deu", "fra"]
        assert made.metadata["title"] == "A title"
        assert made.chapters() == source.chapters() != []
        assert [s.disposition for s in made.streams] == [s.disposition for s in source.streams]
    assert packets("b.mkv", "subtitle") == packets("a.mkv", "subtitle")
    assert [data for _, data in packets("b.mkv", "audio")] == [
        data for _, data in packets("a.mkv", "audio")
    ]


def test_channels_without_names_get_those_that_so_many_usually_have():
    rate = Fraction(1, 25)
    clip("a.avi", range(8), codec="mpeg4", time_base=rate, max_b_frames=0, sound="pcm_s16le")
    copy("a.avi", "b.mp4", VideoEncoding())
    with av.open("b.mp4") as made:
        assert made.streams.audio[0].layout.name == "stereo"
    samples = [b"".join(data for _, data in packets(path, "audio")) for path in ("a.avi", "b.mp4")]
    assert len(samples[0]) > 4000 and samples[0] == samples[1]


def test_a_codec_that_a_container_does_not_take_is_named():
    clip("a.mkv", sound="flac")
    with pytest.raises(
        VideoError, match=r"'b.mov' \| .mov cannot hold .*audio in flac.* write .mkv, or leave"
    ):
        copy("a.mkv", "b.mov", VideoEncoding())


def test_what_a_container_cannot_hold_is_refused_or_said(caplog: pytest.LogCaptureFixture):
    clip("a.mkv", subtitles=True)
    with pytest.raises(
        VideoError,
        match=r"'b.mp4' \| .mp4 cannot hold stream 2 .* write .mkv, or .* --drop subtitles",
    ):
        copy("a.mkv", "b.mp4", VideoEncoding())
    with av.open("c.mkv", "w") as output, av.open(str(clip("a.mp4", (0, 3600)))) as source:
        streams = [output.add_stream_from_template(stream) for stream in source.streams]
        output.add_attachment("font.ttf", "font/ttf", b"abc")
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    copy("c.mkv", "d.mkv")
    assert caplog.messages == []
    with av.open("d.mkv") as made:
        assert made.streams.attachments[0].data == b"abc"
    with caplog.at_level(logging.WARNING):
        copy("c.mkv", "d.mp4", VideoEncoding())
    assert caplog.messages == ["video 'c.mkv': left out: stream 2 (attachment)"]


# What is refused


def test_what_is_no_video():
    Path("text.mp4").write_text("not a video")
    with av.open("sound.mp4", "w") as output:
        audio = output.add_stream("aac", rate=8000)
        audio.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    carrying.with_cover("cover.mp4", "sound.mp4")
    for suffix, kind in (("png", "png"), ("jpg", "jpeg"), ("avif", "HEIF or AVIF")):
        Image.new("RGB", (64, 64)).save(f"picture.{suffix}")
        Path(f"picture.{suffix}").rename("picture.mp4")
        with pytest.raises(VideoError, match=rf"is an image \({kind}\) . give it the suffix"):
            VideoReader(Path("picture.mp4"))
    with av.open("empty.mp4", "w") as output:
        output.add_stream("mpeg4", rate=25)
        output.start_encoding()
    for name, words in (
        ("text.mp4", "is not a video, or its header is incomplete: Invalid data"),
        ("sound.mp4", "has no video stream"),
        ("cover.mp4", "has no video stream, only sound with a cover picture"),
        ("empty.mp4", "video 'empty.mp4' | "),
    ):
        with pytest.raises(VideoError) as caught:
            VideoReader(Path(name))
        assert words in str(caught.value)
    with pytest.raises(ImageError, match="video 'none.mp4' | cannot be read: No such file"):
        VideoReader(Path("none.mp4"))


def test_what_would_be_lost_is_refused():
    interlaced = {"flags": "+ilme+ildct", "x264-params": "interlaced=1"}
    clip("a.mkv", options=interlaced)
    with pytest.raises(VideoError, match="video 'a.mkv' | is interlaced | deinterlace it"):
        VideoReader(Path("a.mkv"))
    clip("b.mkv", codec="ffv1", pixel_format="yuva420p")
    with pytest.raises(VideoError, match="has transparency: yuva420p"):
        VideoReader(Path("b.mkv"))
    clip("c.mkv", codec="ffv1", pixel_format="yuv444p12le")
    with pytest.raises(VideoError, match=r"holds up to 10 of the 12 bits .* use --codec ffv1"):
        copy("c.mkv", "d.mkv", VideoEncoding())
    assert len(copy("c.mkv", "d.mkv")) == len(VARIABLE)
    clip("e.mp4", rotation=(45, False))
    with pytest.raises(VideoError, match="is shown through the matrix"):
        VideoReader(Path("e.mp4"))


def test_a_size_that_changes_on_the_way():
    for size, name in (((48, 32), "a.ts"), ((64, 48), "b.ts")):
        rate = Fraction(1, 25)
        clip(name, (0, 1, 2), size=size, sound=False, codec="mpeg2video", time_base=rate)
    Path("c.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    reader = VideoReader(Path("c.ts"))
    with pytest.raises(VideoError, match="changes from yuv420p 32x48 to yuv420p 48x64"):
        list(reader)


def test_fields_that_begin_on_the_way():
    clip("a.ts", range(0, 4 * 3600, 3600), sound=False)
    interlaced = {"x264-params": "tff=1"}
    clip("b.ts", range(4 * 3600, 8 * 3600, 3600), sound=False, options=interlaced)
    Path("c.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    with pytest.raises(VideoError, match="becomes interlaced . deinterlace it first"):
        list(VideoReader(Path("c.ts")))


def test_a_wrong_codec_or_quality():
    with pytest.raises(UsageError, match="codec 'vp9' | expected one of h264, ffv1"):
        VideoEncoding("vp9")
    with pytest.raises(UsageError, match="CRF -1 | expected 0"):
        VideoEncoding(crf=-1)


# What ends early


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8])
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mkv", {}), ("a.mp4", {"movflags": "faststart"}), ("a.mov", {"movflags": "faststart"})],
)
def test_frames_before_the_cut_and_why_there_are_no_more(name: str, options, share: float):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), dtype=np.uint8)
    pts = range(0, 20 * 9000, 9000)
    clip(name, pts, frames=noise, container_options=options)
    whole = [frame.rgb for frame in VideoReader(Path(name))]
    reader = VideoReader(cut(Path(name), share))
    frames = list(reader)
    assert 1 < len(frames) < 20
    assert reader.damage is not None
    for frame, expected in zip(frames[:-1], whole, strict=False):  # the last may be half there
        assert np.array_equal(frame.rgb, expected)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_a_second_broadcast_in_the_same_file_is_not_squeezed_into_the_first(name: str):
    clip(name, range(40), codec="mpeg2video", time_base=Fraction(1, 25), sound=name == "a.ts")
    times = [frame.pts for frame in VideoReader(Path(name))]
    Path(name).write_bytes(Path(name).read_bytes() * 2)
    reader = VideoReader(Path(name))
    assert [frame.pts for frame in reader] == times
    assert reader.damage is not None
    assert re.search(r"its times restart after 1\.\d\d s$", reader.damage)


def later(source_name: str, name: str, ticks: int) -> None:
    """Write an MPEG-TS with the times of another, later by so many ticks."""
    with av.open(source_name) as source, av.open(name, "w") as output:
        streams = [output.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = streams[packet.stream.index]
                output.mux(packet)


def test_a_stream_that_begins_on_the_way_is_no_damage(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), dtype=np.uint8)
    clip("a.ts", range(0, 20 * 3600, 3600), size=(96, 64), frames=noise, sound=False)
    clip("sound.ts", range(0, 20 * 3600, 3600), size=(96, 64), frames=noise)
    later("sound.ts", "b.ts", 90_000)
    later("a.ts", "c.ts", 180_000)
    filling = (b"\x47\x1f\xff\x10" + bytes(184)) * 2000
    parts = [Path(name).read_bytes() for name in ("a.ts", "b.ts", "c.ts")]
    content, counts = bytearray(filling.join(parts)), dict[bytes, int]()
    for at in range(0, len(content), 188):  # as of one broadcast, without a gap
        stream = bytes([content[at + 1] & 0x1F, content[at + 2]])
        counts[stream] = (counts.get(stream, -1) + (content[at + 3] >> 4 & 1)) % 16
        content[at + 3] = content[at + 3] & 0xF0 | counts[stream]
    Path("d.ts").write_bytes(content)
    nearby = {"probesize": "20000"}  # where streams are looked for; else 5 MB
    monkeypatch.setattr(reading, "_OPTIONS", reading._OPTIONS | nearby)
    reader = VideoReader(Path("d.ts"))
    assert len(reader.container.streams) == 1
    assert (len(list(reader)), reader.damage) == (60, None)
    # PyAV notices such a stream by a byte that it never set: nearly always, and no sooner.
    assert set(caplog.messages) <= {"video 'd.ts': left out: a stream that begins later"}


def test_sound_that_overlaps_what_was_before_fails_no_video(caplog: pytest.LogCaptureFixture):
    clip("a.ts", range(0, 30 * 3600, 3600))
    later("a.ts", "b.ts", 90_000)
    Path("c.ts").write_bytes(Path("a.ts").read_bytes() + Path("b.ts").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert len(copy("c.ts", "d.mp4", VideoEncoding())) == 60
    assert caplog.messages == ["video 'c.ts': left out: sound whose time has passed"]
    times = [time for time, _ in packets("d.mp4", "audio")]
    assert times == sorted(times) and times[-1] > 2


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.avi"])
def test_a_whole_video_has_no_damage(name: str):
    if name == "a.avi":
        clip(name, range(20), codec="mpeg4", time_base=Fraction(1, 25), max_b_frames=0)
    else:
        clip(name, (*VARIABLE, 900_000))  # a still of nine seconds
    reader = VideoReader(Path(name))
    assert len(list(reader)) == (20 if name == "a.avi" else 9)
    assert reader.damage is None


# Names


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "http:.mp4", "%03d.mp4", "a?b#c.mp4", "a\udcff.mp4", "-a.mp4"]
)
def test_any_name_is_a_file(name: str):
    clip("x.mp4", (0, 3600)).rename(name)
    assert len(copy(name, "b.mp4", VideoEncoding())) == 2
    reader = VideoReader(Path(name))
    VideoWriter(Path(f"out {name}"), reader, Path("b.mp4"), VideoEncoding()).close([])
    assert Path(f"out {name}").exists()


def test_containers_of_results():
    suffixes = {"a.mp4": ".mp4", "a.M4V": ".mp4", "a.MOV": ".mov", "a.webm": ".mkv", "a.ts": ".mkv"}
    assert {name: result_suffix(Path(name)) for name in suffixes} == suffixes


@pytest.mark.parametrize(
    "name",
    ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.ts", "a.m2ts", "a.mpg", "a.mxf", "a.wmv", "a.flv"],
)
def test_a_video_is_known_by_its_content_if_its_suffix_says_nothing(name: str):
    rate = Fraction(1, 25)
    codec = {"a.avi": "mpeg4", "a.wmv": "mpeg4", "a.flv": "libx264"}.get(name, "mpeg2video")
    clip(name, range(20), codec=codec, time_base=rate, max_b_frames=0, sound=False)
    for other in ("a", "a.part", "a.rec"):
        Path(other).write_bytes(Path(name).read_bytes())
        assert is_video(Path(other))
    Path("a.jpg").write_bytes(Path(name).read_bytes())
    assert not is_video(Path("a.jpg"))  # says what it is, if wrongly


def test_a_video_without_a_container_is_known_by_its_content():
    for name in ("a.h264", "a.hevc", "a.m2v"):
        if name == "a.m2v":
            Path(name).write_bytes(b"".join(map(bytes, carrying.packets_of("mpeg2video"))))
        else:
            carrying.elementary(name)
        reader = VideoReader(Path(name))
        times = np.diff([frame.pts for frame in reader]) * reader.time_base
        assert list(times) == [Fraction(1, 25)] * 3
        Path(name).rename("stream")
        assert is_video(Path("stream"))


def test_other_files_are_no_videos():
    Path("notes").write_text("no video at all" * 100)
    Path("empty").touch()
    Path("short").write_bytes(b"\x47")
    Image.new("RGB", (16, 16)).save("a.avif")
    Path("a.avif").rename("picture")
    os.mkfifo("pipe")  # nobody writes to it: reading would wait for ever
    for name in ("notes", "empty", "short", "picture", "missing", "pipe", "."):
        assert not is_video(Path(name))


def test_the_room_is_imported_without_pyav():
    code = "import sys; sys.modules['av'] = None; import maxim_deploy.imaging.video"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_levels_come_through():
    clip("a.mp4")
    frames = copy("a.mp4", "b.mp4", VideoEncoding())
    assert all(abs(int(f[9, 9, 0]) - v) <= 1 for f, v in zip(frames, levels(8), strict=True))
    assert all(abs(a - b) <= 2 for (_, a), b in zip(shown("b.mp4"), levels(8), strict=True))
