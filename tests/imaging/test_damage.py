"""Damage that viewers do not mind costs a warning; damage to the pixels is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging.samples import chunk, saved
from PIL import Image

from maxim_deploy.errors import ImageError
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.formats import png
from maxim_deploy.imaging.formats.spliced import Spliced

SMOOTH = np.linspace(0, 255, 96 * 80 * 3).reshape(96, 80, 3).astype(np.uint8)
JPEGS = [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]


def stored(path: Path, **options: Any) -> tuple[bytes, np.ndarray]:
    noisy = SMOOTH // 2 + np.random.default_rng(0).integers(0, 99, SMOOTH.shape, dtype=np.uint8)
    content = saved(path, Image.fromarray(noisy), **options).read_bytes()
    return content, read_image(path).rgb


@pytest.mark.parametrize("options", JPEGS)
def test_a_jpeg_without_its_end_is_read_whole(tmp_path: Path, caplog, options: dict[str, Any]):
    content, expected = stored(tmp_path / "a.jpg", **options)
    assert content.endswith(b"\xff\xd9")
    (tmp_path / "cut.jpg").write_bytes(content[:-2])
    assert np.array_equal(read_image(tmp_path / "cut.jpg").rgb, expected)
    assert "cut.jpg': the end marker is missing" in caplog.text


@pytest.mark.parametrize("options", JPEGS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_jpeg_that_lacks_pixels_is_refused(tmp_path: Path, share: float, options):
    content, _ = stored(tmp_path / "a.jpg", quality=95, **options)
    if options.get("progressive") and share > 0.8:
        pytest.skip("what is missing is the finest bit of a part")
    (tmp_path / "cut.jpg").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match="image file is truncated"):
        read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize("end", [b"\xff\xd9" * 3, bytes(100), b"\r\n"])
def test_padding_behind_a_jpeg_is_no_data(tmp_path: Path, caplog, end: bytes):
    content, expected = stored(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(content + end[2:])
    assert np.array_equal(read_image(tmp_path / "b.jpg").rgb, expected)
    assert caplog.text == "" or end.startswith(b"\xff")


@pytest.mark.parametrize("head", [b"\1\2", b"\2\2", b""])
def test_an_incomplete_profile_of_a_jpeg_costs_the_profile(tmp_path: Path, caplog, head: bytes):
    content, expected = stored(tmp_path / "a.jpg")
    data = b"ICC_PROFILE\0" + head
    segment = struct.pack(">BBH", 0xFF, 0xE2, len(data) + 2) + data
    (tmp_path / "a.jpg").write_bytes(content[:20] + segment + content[20:])
    picture = read_image(tmp_path / "a.jpg")
    assert np.array_equal(picture.rgb, expected)
    assert picture.icc_profile is None
    assert "the ICC profile is incomplete" in caplog.text


def test_a_png_without_its_end_or_with_bad_checksums_is_read_whole(tmp_path: Path, caplog):
    content, expected = stored(tmp_path / "a.png")
    bad = b"".join(chunk(kind, b"a\0b")[:-1] + b"?" for kind in (b"tEXt", b"gAMA", b"iCCP"))
    broken = content[:33] + bad + content[33:-12]
    for cut in (broken, broken + b"\0\0", broken + bytes(4) + b"IEND" + bytes(4)):
        (tmp_path / "cut.png").write_bytes(cut)
        assert np.array_equal(read_image(tmp_path / "cut.png").rgb, expected)
    assert caplog.text.count("the end marker is missing") == 2
    assert caplog.text.count("chunk gAMA has a wrong checksum and is left out") == 3


@pytest.mark.parametrize("profile", [b"x", b"x\0\0rubbish", b"x\0\0" + b"\x78\x9c\x01"])
def test_a_broken_profile_of_a_png_costs_the_profile(tmp_path: Path, caplog, profile: bytes):
    content, expected = stored(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(content[:33] + chunk(b"iCCP", profile) + content[33:])
    picture = read_image(tmp_path / "a.png")
    assert np.array_equal(picture.rgb, expected)
    assert picture.icc_profile is None
    assert "the ICC profile is" in caplog.text


def test_a_profile_that_inflates_without_end_costs_the_profile(
    tmp_path: Path, caplog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(png, "MOST_BYTES", 1000)
    content, _ = stored(tmp_path / "a.png")
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1001)))
    (tmp_path / "a.png").write_bytes(content[:33] + bomb + content[33:])
    assert read_image(tmp_path / "a.png").icc_profile is None
    assert "cut off or over 1,000 bytes" in caplog.text


def test_pieces_of_a_file_are_a_file() -> None:
    file = io.BytesIO(bytes(range(20)))
    spliced = Spliced(file, [b"ab", (3, 6), b"", (10, 10), (18, 20), b"c"])
    whole = b"ab" + bytes([3, 4, 5, 18, 19]) + b"c"
    assert spliced.read() == whole
    for start in range(9):
        for size in range(9):
            assert spliced.seek(start) == start
            assert spliced.read(size) == whole[start : start + size]
    assert spliced.seek(-1, io.SEEK_END) == 7 and spliced.read() == b"c" and spliced.tell() == 8
