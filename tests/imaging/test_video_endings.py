"""Videos whose end is missing, cut at many places, and whole ones of every container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import clip

from maxim_deploy.imaging.video import VideoReader

pytest.importorskip("av")

EVEN = tuple(range(0, 12 * 3600, 3600))
UNEVEN = (0, 3600, 10800, 14400, 21600, 25200, 36000, 90000, 93600, 180000, 181000, 200000)
COUNTED: dict[str, Any] = {"time_base": Fraction(1, 25)}
FAST = {"container_options": {"movflags": "faststart"}}
LIVE = {"container_options": {"live": "1"}}

CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("a.mp4", FAST),
    "mp4-uneven": ("a.mp4", {"pts": UNEVEN, **FAST}),
    "mov-silent": ("a.mov", {"sound": False, **FAST}),
    "3gp": ("a.3gp", {"sound": False, **FAST}),
    "mkv": ("a.mkv", {}),
    "mkv-uneven": ("a.mkv", {"pts": UNEVEN}),
    "webm": ("a.webm", {"codec": "libvpx", "sound": False}),
    "webm-uneven": ("a.webm", {"pts": UNEVEN, "codec": "libvpx", "sound": False}),
    "mkv-live": ("a.mkv", {"sound": False, **LIVE}),
    "webm-live": ("a.webm", {"codec": "libvpx", "sound": False, **LIVE}),
    "avi": ("a.avi", {"codec": "mpeg4", "pts": range(12), "max_b_frames": 0, **COUNTED}),
    "flv": ("a.flv", {"sound": False}),
    "flv-uneven": ("a.flv", {"pts": UNEVEN}),
    "wmv": ("a.wmv", {"codec": "wmv2"}),
    "ogv": ("a.ogv", {"codec": "libvpx", "sound": False}),
    "mpg": ("a.mpg", {"codec": "mpeg2video", "pts": range(12), "sound": False, **COUNTED}),
    "ts": ("a.ts", {}),
    "ts-uneven": ("a.ts", {"pts": UNEVEN, "sound": False}),
    "ts-slices": (
        "a.ts",
        {"sound": False, "options": {"x264-params": "slices=4:sliced-threads=0:cabac=0"}},
    ),
    "ts-open": ("a.ts", {"sound": False, "options": {"x264-params": "open-gop=1:keyint=5"}}),
    "ts-mpeg2": ("a.ts", {"codec": "mpeg2video", "pts": range(12), "sound": False, **COUNTED}),
    "ts-hevc": (
        "a.ts",
        {"codec": "libx265", "sound": False, "options": {"x265-params": "log-level=0"}},
    ),
    "m2ts": ("a.m2ts", {}),
}

# A decoder with a single thread words some damage otherwise than one with several.
pytestmark = pytest.mark.usefixtures("every_processor")

WITHOUT_FRAMES = {"avi": 8, "flv": 24, "flv-uneven": 24, "wmv": 2000, "mpg": 2048}
"""Bytes at the end that hold no frame, and whose loss need not show."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(kind: str) -> Path:
    name, options = CLIPS[kind]
    pts = options.get("pts", EVEN)
    noise = np.random.default_rng(0).integers(0, 256, (len(pts), 64, 96, 3), dtype=np.uint8)
    return clip(name, **{"pts": pts, "frames": noise, "size": (96, 64), **options})


def damage_of(path: Path) -> tuple[int, str | None]:
    """How many frames there are, and what is wrong."""
    reader = VideoReader(path)
    count = sum(1 for _ in reader)
    reader.close()
    return count, reader.damage


def part(path: Path, length: int) -> Path:
    """A file of its first bytes."""
    shorter = path.with_stem("part")
    shorter.write_bytes(path.read_bytes()[:length])
    return shorter


@pytest.mark.parametrize("kind", CLIPS)
def test_only_a_whole_video_is_whole(kind: str, caplog: pytest.LogCaptureFixture):
    path = made(kind)
    assert damage_of(path) == (12, None)
    assert not caplog.records
    size = path.stat().st_size
    for length in np.linspace(size * 0.4, size - 1 - WITHOUT_FRAMES.get(kind, 0), 15).astype(int):
        if "ts" in path.suffix:  # between two packets is another test
            length += 5 * (length % (192 if kind == "m2ts" else 188) < 5)
        count, damage = damage_of(part(path, length))
        assert damage, f"{count} frames in {length} of {size} bytes"


@pytest.mark.parametrize("kind", ["ts-uneven", "ts-slices", "ts-open", "ts-hevc"])
def test_mpeg_ts_that_is_cut_between_two_packets_inside_a_frame_is_damaged(
    kind: str, caplog: pytest.LogCaptureFixture
):
    path = made(kind)
    content = path.read_bytes()
    found = set()
    for end in range(len(content) // 2 // 188 * 188, len(content), 188):
        count, damage = damage_of(part(path, end))
        is_inside = content[end + 1] & 0x40 == 0  # the next packet starts no frame or table
        assert bool(damage) == is_inside, f"{count} frames in {end} of {len(content)} bytes"
        found.add(damage)
    if kind in ("ts-slices", "ts-hevc"):  # in the others the decoder notices all by itself
        assert "its last frame is cut off" in found
    assert not caplog.records


def test_a_whole_last_frame_that_fills_its_packets_is_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("maxim_deploy.imaging.video.demuxing.may_lack_end", lambda *_: True)
    for kind in ("ts", "ts-uneven", "ts-slices", "ts-open", "ts-hevc", "ts-mpeg2", "m2ts"):
        assert damage_of(made(kind)) == (12, None)
    assert not caplog.records


@pytest.mark.parametrize("limit", [{"_MOST_PACKETS": 8}, {"_MOST_BYTES": 20_000}])
def test_of_a_last_frame_far_from_any_keyframe_nobody_can_tell(
    limit: dict[str, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for name, most in limit.items():
        monkeypatch.setattr(f"maxim_deploy.imaging.video.last_frame.{name}", most)
    monkeypatch.setattr("maxim_deploy.imaging.video.demuxing.may_lack_end", lambda *_: True)
    assert damage_of(made("ts")) == (12, None)
    (record,) = caplog.records
    assert record.getMessage() == "video 'a.ts': cannot check whether its last frame is complete"


def test_of_a_codec_whose_decoder_varies_nobody_can_tell(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("maxim_deploy.imaging.video.demuxing.may_lack_end", lambda *_: True)
    path = clip("a.ts", range(12), codec="mpeg4", sound=False, max_b_frames=0, **COUNTED)
    assert damage_of(path) == (12, None)
    (record,) = caplog.records
    assert record.getMessage() == "video 'a.ts': cannot check whether its last frame is complete"


def test_where_a_whole_frame_shows_the_same_nobody_can_tell(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("maxim_deploy.imaging.video.demuxing.may_lack_end", lambda *_: True)
    slices = "slices=2:wpp=1:pools=1:ctu=32:keyint=1:log-level=0"  # libav takes none but the first
    options = {"preset": "superfast", "x265-params": slices}
    path = clip("a.ts", EVEN, size=(64, 64), codec="libx265", sound=False, options=options)
    assert damage_of(path) == (12, None)
    (record,) = caplog.records
    assert record.getMessage() == "video 'a.ts': cannot check whether its last frame is complete"


@pytest.mark.parametrize("box", [b"moof", b"mdat"])
def test_a_cut_right_behind_the_name_of_a_box_shows(box: bytes):
    fragments = {"movflags": "frag_every_frame+empty_moov"}
    path = clip("a.mp4", EVEN, sound=False, container_options=fragments)
    length = path.read_bytes().rindex(box) + 4
    _, damage = damage_of(part(path, length))
    assert damage is not None and damage.endswith("bytes are missing at its end")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "wmv", "flv"])
@pytest.mark.parametrize("more", [b"\0" * 100, b"a line of text\n" * 9, b"\xff" * 300])
def test_what_is_appended_is_no_damage(kind: str, more: bytes):
    path = made(kind)
    with path.open("ab") as file:
        file.write(more)
    assert damage_of(path) == (12, None)


@pytest.mark.parametrize("name", ["a.flv", "a.mkv", "a.webm", "a.mp4", "a.mov"])
def test_a_video_that_starts_late_is_whole(name: str):
    codec = "libvpx" if name == "a.webm" else "libx264"
    path = clip(name, tuple(range(900_000, 945_000, 3600)), codec=codec, sound=False)
    assert damage_of(path) == (13, None)
