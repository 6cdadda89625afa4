"""Image files: what is kept, what is refused, and in which words."""

from __future__ import annotations

import io
import logging
import os
import struct
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging.samples import SRGB, STORED_AS, chunk, exif_with, saved
from PIL import Image, JpegImagePlugin

from maxim_deploy.errors import ImageError, UsageError
from maxim_deploy.imaging import limits
from maxim_deploy.imaging.files import (
    Picture,
    check_output_holds,
    check_output_suffix,
    read_image,
    write_image,
)

LOSSLESS = (".png", ".webp", ".tif", ".tiff", ".bmp")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(params=["imagecodecs", "tifffile"])
def without_hdr(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A library of the extra `hdr` is missing; its name."""
    monkeypatch.setitem(sys.modules, request.param, None)
    return request.param


def png(bits: int, colour: int, data: bytes, *, before: bytes = b"") -> bytes:
    """A 2x2 PNG made by hand: Pillow writes no deep colour and no damaged chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, bits, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + before + body


def cmyk_profile() -> bytes:
    """A small ICC profile that maps unprinted paper to white and any ink to black."""
    corners = bytes([255, 128, 128] + 15 * [0, 128, 128])
    ramp = bytes(range(256))
    table = struct.pack(">4s4x3Bx9i", b"mft1", 4, 3, 2, *(3 * [65536, 0, 0, 0])[:9])
    table += 4 * ramp + corners + 3 * ramp
    names = (b"prtr", b"CMYK", b"Lab ", b"acsp")
    size = 144 + len(table)
    header = struct.pack(">I4xI4s4s4s12x4s28x3i48x", size, 0x02400000, *names, 63190, 65536, 54061)
    return header + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


# What comes back


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5000), (37, 50)])
def test_lossless_formats_bring_pixels_back(tmp_path: Path, suffix: str, size: tuple[int, int]):
    rgb = noise(*size, 3)
    write_image(tmp_path / f"a{suffix}", rgb)
    back = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(back.rgb, rgb)
    assert back.rgb.flags.c_contiguous
    assert (back.alpha, back.is_grey, back.icc_profile, back.exif) == (None, False, None, None)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_jpeg_is_close_and_in_full_colour_resolution(tmp_path: Path, suffix: str):
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (1, 48, 3))
    write_image(tmp_path / f"a{suffix}", smooth)
    assert np.abs(read_image(tmp_path / f"a{suffix}").rgb.astype(int) - smooth).max() <= 3
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert JpegImagePlugin.get_sampling(image) == 0


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_comes_back_bit_for_bit(tmp_path: Path, suffix: str, mode: str):
    pixels = noise(20, 30, len(mode))
    pixels[:5, :, -1] = 0  # colour below full transparency is kept too
    picture = read_image(saved(tmp_path / "in.png", Image.fromarray(pixels, mode)))
    write_image(tmp_path / f"out{suffix}", picture.rgb, like=picture)
    back = read_image(tmp_path / f"out{suffix}")
    assert back.alpha is not None
    assert np.array_equal(back.alpha, pixels[..., -1])
    assert np.array_equal(back.rgb, np.broadcast_to(pixels[..., :-1], (20, 30, 3)))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_stays_grey(tmp_path: Path, suffix: str, mode: str):
    image = Image.fromarray(noise(9, 8)).convert(mode)
    picture = read_image(saved(tmp_path / "in.png", image))
    assert picture.is_grey
    assert np.array_equal(picture.rgb[..., 0], np.asarray(image.convert("L")))
    write_image(tmp_path / f"out{suffix}", picture.rgb, like=picture)
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert written.mode == "L"


def test_palettes_become_rgb(tmp_path: Path):
    palette = Image.fromarray(noise(6, 7, 3)).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    for name in ("a.png", "a.gif", "a.bmp"):
        assert np.array_equal(read_image(saved(tmp_path / name, palette)).rgb, expected)
    picture = read_image(saved(tmp_path / "clear.png", palette, transparency=3))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, np.asarray(palette) == 3)
    assert np.array_equal(picture.rgb, expected)


def test_a_transparent_colour_becomes_alpha(tmp_path: Path):
    image = Image.fromarray(np.uint8([[[1, 2, 3], [4, 5, 6]]]))
    picture = read_image(saved(tmp_path / "a.png", image, transparency=(4, 5, 6)))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 0]]


def test_cmyk_goes_through_its_profile_or_plainly(tmp_path: Path):
    cyan = Image.new("CMYK", (4, 3), (255, 0, 0, 0))
    plain = read_image(saved(tmp_path / "plain.tif", cyan))
    assert plain.rgb[0, 0].tolist() == [0, 255, 255]
    managed = read_image(saved(tmp_path / "managed.tif", cyan, icc_profile=cmyk_profile()))
    assert managed.rgb[0, 0].tolist() == [0, 0, 0]
    assert managed.icc_profile is None  # it does not describe the sRGB pixels


@pytest.mark.parametrize(
    "profile", [SRGB, SRGB[:200], b"rubbish"], ids=["of RGB", "cut short", "rubbish"]
)
def test_a_profile_that_is_not_for_cmyk_costs_a_warning(tmp_path: Path, caplog, profile: bytes):
    cyan = Image.new("CMYK", (4, 3), (255, 0, 0, 0))
    picture = read_image(saved(tmp_path / "bad.tif", cyan, icc_profile=profile))
    assert picture.rgb[0, 0].tolist() == [0, 255, 255]
    assert picture.icc_profile is None
    assert "bad.tif': the ICC profile is damaged or not for CMYK" in caplog.text


def test_a_profile_of_lab_does_not_describe_what_becomes_srgb(tmp_path: Path):
    lab = Image.new("RGB", (4, 3), (200, 30, 60)).convert("LAB")
    picture = read_image(saved(tmp_path / "a.tif", lab, icc_profile=lab.info["icc_profile"]))
    assert np.abs(picture.rgb[0, 0].astype(int) - (200, 30, 60)).max() <= 4
    assert picture.icc_profile is None


@pytest.mark.parametrize("name", ["P2", "P3", "P5", "P6"])
def test_pnm_files_of_any_small_range(tmp_path: Path, name: str):
    count = 3 if name in ("P3", "P6") else 1
    values = b"15 " * count if name in ("P2", "P3") else b"\x0f" * count
    (tmp_path / "a.ppm").write_bytes(f"{name} 1 1 15\n".encode() + values)
    assert read_image(tmp_path / "a.ppm").rgb.tolist() == [[[255, 255, 255]]]


# Metadata


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_orientation_is_applied_and_then_gone(tmp_path: Path, suffix: str, orientation: int):
    upright = noise(5, 7, 3)
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](upright)))
    exif = exif_with({0x0112: orientation})
    path = saved(tmp_path / f"a{suffix}", stored, exif=exif, lossless=True)
    picture = read_image(path)
    assert np.array_equal(picture.rgb, upright)
    for name in ("b.png", "b.webp", "b.tif"):
        write_image(tmp_path / name, picture.rgb, like=picture)
        assert np.array_equal(read_image(tmp_path / name).rgb, upright)
        with Image.open(tmp_path / name) as image:
            assert 0x0112 not in image.getexif()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("source", ["in.jpg", "in.tif"])
def test_profile_and_exif_are_kept(tmp_path: Path, source: str, suffix: str):
    # Some cameras write the stored width into EXIF, which must not become that of a TIFF.
    exif = exif_with({} if source == "in.tif" else {0x0100: 999, 0x0102: 16})
    image = Image.fromarray(noise(8, 6, 3))
    picture = read_image(saved(tmp_path / source, image, exif=exif, icc_profile=SRGB))
    write_image(tmp_path / f"out{suffix}", picture.rgb, like=picture)
    back = read_image(tmp_path / f"out{suffix}")
    assert back.icc_profile == SRGB
    assert back.rgb.shape == (8, 6, 3)
    kept = Image.Exif()
    kept.load(back.exif or b"")
    assert kept[0x010F] == "ACME"
    assert kept.get_ifd(0x8769) == {0x9003: "2001:02:03 04:05:06"}


def test_a_grey_profile_goes_only_where_grey_goes(tmp_path: Path):
    picture = Picture(noise(4, 4, 3), is_grey=True, icc_profile=b"a grey profile")
    for name, expected in (("a.png", b"a grey profile"), ("a.webp", None)):
        write_image(tmp_path / name, picture.rgb, like=picture)
        assert read_image(tmp_path / name).icc_profile == expected


def test_damaged_exif_costs_the_exif_only(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rgb = noise(4, 4, 3)
    path = saved(tmp_path / "a.png", Image.fromarray(rgb), exif=b"Exif\0\0rubbish!" * 3)
    with caplog.at_level(logging.WARNING):
        picture = read_image(path)
    assert np.array_equal(picture.rgb, rgb)
    assert picture.exif is None
    assert "damaged EXIF is left out" in caplog.text


# What is refused


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bit_png_needs_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: int, channels: int
):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    (tmp_path / "deep.png").write_bytes(png(16, colour, 2 * (b"\0" + 4 * channels * b"\1")))
    with pytest.raises(
        ImageError, match=r"deep\.png' \| has 16 bits per channel.*would lose the rest"
    ) as e:
        read_image(tmp_path / "deep.png")
    assert str(e.value).endswith(
        "imagecodecs is not installed; run: pip install 'maxim-deploy[hdr]'"
    )
    assert e.value.exit_code == 1


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_deep_tiff_is_refused(tmp_path: Path, dtype: str, options: dict[str, Any]):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((4, 5), dtype)), **options)
    words = {"int32": "has 32 bits per channel", "float32": "floating-point samples of 32 bits"}
    with pytest.raises(ImageError, match=words[dtype]):
        read_image(path)


def test_16_bit_colour_tiff_needs_the_extra(tmp_path: Path, without_hdr: str):
    """Pillow opens it as 8-bit RGB, and cannot write one."""
    entries = [(256, 1), (257, 1), (258, 16), (259, 1), (262, 2), (273, 8), (277, 3), (279, 6)]
    directory = struct.pack("<H", len(entries))
    for tag, value in entries:
        count, value = (3, 122) if tag == 258 else (1, value)
        directory += struct.pack("<HHII", tag, 3, count, value)
    data = b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory + bytes(4)
    data += bytes(122 - len(data)) + struct.pack("<3H", 16, 16, 16)
    (tmp_path / "a.tif").write_bytes(data)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "RGB"
    with pytest.raises(ImageError, match=rf"16 bits.*{without_hdr} is not.*maxim-deploy\[hdr\]"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("content", "bits"),
    [
        *((b"P6 1 1 %d\n" % largest + bytes(6), 16) for largest in (256, 1023, 65535)),
        *((b"P5 1 1 %d\n" % largest + bytes(2), 16) for largest in (256, 65535)),
        *((b"P3 1 1 300\n1 2 3", 16), (b"P2 1 1 300\n1", 16)),
        (b"Pf 1 1 -1.0\n" + bytes(4), 32),
    ],
)
def test_deep_pnm_is_refused(tmp_path: Path, content: bytes, bits: int):
    (tmp_path / "a.ppm").write_bytes(content)
    with pytest.raises(ImageError, match=f"has {bits} bits per channel"):
        read_image(tmp_path / "a.ppm")


@pytest.mark.parametrize(
    ("name", "number"), [("a.gif", "2 frames or more"), ("a.webp", "3 frames"),
                         ("a.png", "3 frames"), ("a.tif", "2 frames or more")],
)  # fmt: skip
def test_several_frames_are_refused(tmp_path: Path, name: str, number: str):
    frames = [Image.fromarray(noise(8, 8, 3) // n) for n in (1, 2, 3)]
    saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=f"has {number}, and all but one would be lost"):
        read_image(tmp_path / name)


def test_a_multi_picture_jpeg_is_its_first_picture(tmp_path: Path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    saved(tmp_path / "a.jpg", first, format="MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    assert read_image(tmp_path / "a.jpg").rgb[0, 0].tolist() == [254, 0, 0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".ppm"])
def test_more_pixels_than_the_caller_allows(tmp_path: Path, suffix: str):
    path = saved(tmp_path / f"a{suffix}", Image.new("RGB", (15, 14)))
    assert read_image(path, max_pixels=210).rgb.shape == (14, 15, 3)
    words = r"14x15, 210 pixels, but the limit is 209 \| raise max_pixels"
    with pytest.raises(ImageError, match=words):
        read_image(path, max_pixels=209)
    with pytest.raises(UsageError, match="max_pixels is 0"):
        read_image(path, max_pixels=0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_more_pixels_than_memory_are_refused_and_nothing_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    path = saved(tmp_path / f"a{suffix}", Image.new("L", (2000, 1000)))
    monkeypatch.setattr(limits, "available_bytes", lambda: 14_000_000)
    assert read_image(path).rgb.shape == (1000, 2000, 3)
    monkeypatch.setattr(limits, "available_bytes", lambda: 13_999_999)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"1000x2000, 2,000,000 pixels, take 0.0 GiB .* memory"):
        read_image(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_the_limit_of_pillow_is_left_alone_and_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        path = saved(tmp_path / f"a{suffix}", Image.new("RGB", (150, 14)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert read_image(path).rgb.shape == (14, 150, 3)
        assert caught == []
    assert Image.MAX_IMAGE_PIXELS == 100


def test_threads_leave_the_limit_of_pillow_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    image = Image.fromarray(noise(30, 40, 3))
    paths = [saved(tmp_path / f"a{suffix}", image.convert("P")) for suffix in (".png", ".gif")]
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(read_image, paths * 20))
    assert all(picture.rgb.shape == (30, 40, 3) for picture in pictures)
    assert Image.MAX_IMAGE_PIXELS == 100


def damaged(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> a path that is no good image, and what the error says of it."""
    good = saved(folder / "good.png", Image.fromarray(noise(64, 64, 3))).read_bytes()
    jpeg = saved(folder / "good.jpg", Image.fromarray(noise(64, 64, 3))).read_bytes()
    contents = {
        "empty": (b"", "the file is empty"),
        "text": (b"hello", "damaged or not an image | expected PNG, JPEG"),
        "truncated": (good[:5000], "cannot be read: "),
        "truncated-jpeg": (jpeg[:2000], "cannot be read: image file is truncated"),
        "header-only": (good[:20], "holds damaged PNG: "),
        "broken-header": (good[:17] + b"\xff" + good[18:], "holds damaged PNG"),
        "unknown-chunk": (png(8, 2, bytes(14), before=chunk(b"CgBI", b"1234")), "chunk CgBI"),
        "other-format": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "is PostScript"),
    }
    cases = {"missing": (folder / "missing.png", "cannot be read: No such file or directory")}
    cases["folder"] = (folder, "is a folder")
    for name, (content, words) in contents.items():
        (folder / name).write_bytes(content)
        cases[name] = (folder / name, words)
    os.mkfifo(folder / "pipe")
    cases["pipe"] = (folder / "pipe", "is not a regular file")
    return cases


def test_bad_files_are_refused_with_path_and_reason(tmp_path: Path):
    for name, (path, words) in damaged(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            read_image(path)
        message = str(caught.value)
        assert message.startswith(f"image '{path}' | "), name
        assert words in message, name


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_nothing_but_image_errors(tmp_path: Path):
    random = np.random.default_rng(0)
    image = Image.fromarray(noise(20, 30, 3))
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".ppm"):
        options = {} if suffix in (".bmp", ".gif", ".ppm") else {"exif": exif_with({0x0112: 6})}
        good = np.frombuffer(saved(tmp_path / f"a{suffix}", image, **options).read_bytes(), "u1")
        for _ in range(100):
            bad = good.copy()
            bad[random.integers(0, min(400, bad.size), 5)] = random.integers(0, 256, 5)
            (tmp_path / "bad").write_bytes(bad[: random.integers(1, 2 * bad.size)].tobytes())
            try:
                picture = read_image(tmp_path / "bad", max_pixels=1_000_000)
            except ImageError:
                continue
            assert picture.rgb.ndim == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file(tmp_path: Path):
    saved(tmp_path / "a.png", Image.new("RGB", (2, 2))).chmod(0)
    with pytest.raises(ImageError, match=r"a\.png' \| cannot be read: Permission denied"):
        read_image(tmp_path / "a.png")


# Writing


@pytest.mark.parametrize("name", ["a.pgn", "a.gif", "a"])
def test_unknown_suffixes_list_the_known(name: str):
    words = r"suffix '\.pgn' \(did you mean '\.png'\?\)" if name == "a.pgn" else "suffix"
    with pytest.raises(UsageError, match=words + r".*\.png, \.jpg, .*\.bmp"):
        check_output_suffix(Path(name))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_never_dropped(tmp_path: Path, suffix: str):
    picture = Picture(noise(2, 2, 3), alpha=noise(2, 2))
    with pytest.raises(ImageError, match=r"cannot hold the transparency.*\.png, \.webp or \.tif"):
        write_image(tmp_path / f"a{suffix}", picture.rgb, like=picture)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "largest"), [("a.webp", 16383), ("a.jpg", 65500)])
def test_pictures_beyond_a_format_are_refused(name: str, largest: int):
    check_output_holds(Path(name), Picture(np.zeros((1, largest, 3), np.uint8)))
    with pytest.raises(ImageError, match=rf"1x{largest + 1} pixels.*write \.png or \.tif"):
        check_output_holds(Path(name), Picture(np.zeros((1, largest + 1, 3), np.uint8)))


def test_what_is_too_long_for_jpeg_costs_a_warning(tmp_path: Path, caplog):
    picture = Picture(noise(2, 2, 3), exif=b"Exif\0\0" + bytes(70_000))
    write_image(tmp_path / "a.jpg", picture.rgb, like=picture)
    assert "left out: the EXIF (70,006 bytes, but JPEG holds 65,533)" in caplog.text
    assert read_image(tmp_path / "a.jpg").exif is None


@pytest.mark.parametrize(
    "rgb", [noise(4, 4), noise(4, 4, 4), noise(4, 4, 3) / 255, noise(0, 4, 3), noise(2, 3, 3)]
)
def test_arrays_of_another_form_are_usage_errors(tmp_path: Path, rgb: np.ndarray):
    with pytest.raises(UsageError, match="expected"):
        write_image(tmp_path / "a.png", rgb, like=Picture(rgb, alpha=noise(9, 9)))


def test_a_file_that_cannot_be_written_is_an_image_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=r"a\.png' \| cannot be written: Not a directory"):
        write_image(tmp_path / "file" / "a.png", noise(2, 2, 3))


def test_a_failed_write_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_image(tmp_path / "a.png", noise(2, 2, 3))
    before = (tmp_path / "a.png").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ImageError, match="cannot be written: No space left on device"):
        write_image(tmp_path / "a.png", noise(9, 9, 3))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_strided_arrays_are_written_as_they_look(tmp_path: Path):
    rgb = noise(8, 9, 3)[::2, ::-1]
    write_image(tmp_path / "a.png", rgb)
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as image:
        assert np.array_equal(np.asarray(image), rgb)
