"""Pictures and videos that claim more than they hold, or name other files."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maxim_deploy.errors import ImageError, VideoError
from maxim_deploy.imaging.files import read_image, read_image_size
from maxim_deploy.imaging.formats import tiff
from maxim_deploy.imaging.video import VideoReader


def directory(entries: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    """Of TIFF, little-endian: tag to type, count and value or offset."""
    rows = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)


def picture(bits: int = 8, **more: int) -> dict[int, tuple[int, int, int]]:
    return {
        256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, bits), 259: (3, 1, 1), 262: (3, 1, 1),
        277: (3, 1, 1), **{int(tag[1:]): (4, 1, value) for tag, value in more.items()},
    }  # fmt: skip


def saved(path: Path, *directories: dict[int, tuple[int, int, int]]) -> Path:
    content, at = b"II*\0" + struct.pack("<I", 8), 8
    for number, entries in enumerate(directories):
        at += len(directory(entries))
        content += directory(entries, at if number + 1 < len(directories) else 0)
    path.write_bytes(content + bytes(600))
    return path


def test_a_second_page_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = tiff.read_directory
    monkeypatch.setattr(tiff, "read_directory", lambda *x: seen.append(1) or real(*x))
    page = picture(_273=8, _278=16, _279=256)
    with pytest.raises(ImageError, match="has 2 frames or more"):
        read_image(saved(tmp_path / "a.tif", *[page] * 500))
    assert len(seen) == 2
    reduced = page | {254: (4, 1, 1)}
    with pytest.raises(ImageError, match="more than 100 reduced pictures"):
        read_image(saved(tmp_path / "b.tif", page, *[reduced] * 500))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"_322": 65472, "_323": 65472, "_324": 200, "_325": 100}, "tiles of 65472x65472"),
        ({"_322": 16, "_323": 16, "_324": 200, "_325": 100, "_256": 6_000_000}, "are missing"),
        ({"_273": 8, "_278": 1, "_279": 256}, "parts of its pixels are missing"),
        ({"_273": 8, "_278": 16, "_279": 256, "_277": 60_000}, "60000 samples per pixel"),
        ({"_273": 8, "_278": 10**9, "_279": 256, "_257": 10**6, "_256": 9000}, "is damaged"),
    ],
)
def test_what_a_tiff_claims(tmp_path: Path, bits: int, layout, message: str) -> None:
    path = saved(tmp_path / "a.tif", picture(bits, **layout))
    for read in (read_image, read_image_size):
        with pytest.raises(ImageError, match=message):
            read(path)


def test_values_that_overlap(tmp_path: Path) -> None:
    page = picture(_273=8, _278=16, _279=256)
    page |= {1000 + k: (1, 500, 8) for k in range(100)}
    with pytest.raises(ImageError, match="longer than its file"):
        read_image(saved(tmp_path / "a.tif", page))


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "PNG", "JPEG"])
def test_a_header_that_claims_a_hundred_megapixels(tmp_path: Path, kind: str) -> None:
    target = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (37, 41, 3)).astype(np.uint8)
    Image.fromarray(noise).save(target, kind)
    content = target.getvalue()
    # 41 and 37, as each format has them; the checksum of PNG is made anew.
    form = {"WEBP": "<HH", "BMP": "<ii", "PNG": ">II", "JPEG": ">HH"}[kind]
    sides = (41, 37) if kind != "JPEG" else (37, 41)
    claimed = content.replace(struct.pack(form, *sides), struct.pack(form, 12_000, 12_000), 1)
    assert claimed != content
    if kind == "PNG":
        import zlib

        claimed = claimed[:29] + struct.pack(">I", zlib.crc32(claimed[12:29])) + claimed[33:]
    (tmp_path / "a").write_bytes(claimed)
    with pytest.raises(ImageError, match=r"its header says 12000x12000 pixels, but the file has"):
        read_image_size(tmp_path / "a")


def test_black_pictures_are_dense(tmp_path: Path) -> None:
    black = Image.new("RGB", (1500, 1200))
    for name, options in {
        "a.webp": {"lossless": True}, "b.webp": {}, "a.png": {}, "a.gif": {}, "a.bmp": {},
        "a.jpg": {"progressive": True}, "a.tif": {"compression": "tiff_lzw"},
    }.items():  # fmt: skip
        black.save(tmp_path / name, **options)
        assert read_image_size(tmp_path / name) == (1200, 1500)


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
     "ffconcat version 1.0\nfile '{}'\n"],
    ids=["playlist", "list"],
)  # fmt: skip
def test_a_list_of_files_is_no_video(tmp_path: Path, text: str) -> None:
    pytest.importorskip("av")
    from clips import clip

    other = clip(tmp_path / "other.ts", range(0, 7200, 3600), sound=False)
    for suffix in (".ts", ".mp4", ".mkv"):
        path = tmp_path / f"list{suffix}"
        path.write_text(text.format(other.name))
        start = time.perf_counter()
        with pytest.raises(VideoError, match="is not a video"):
            VideoReader(path)
        assert time.perf_counter() - start < 5


def test_memory_that_a_damaged_video_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av = pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"x")
    error: Exception = av.error.MemoryError(12, "Cannot allocate memory")

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(av, "open", fails)
    with pytest.raises(VideoError, match="needs more memory than libav can get"):
        VideoReader(tmp_path / "a.mp4")
    error = MemoryError()  # of this machine, which callers may answer to
    with pytest.raises(MemoryError):
        VideoReader(tmp_path / "a.mp4")
