"""Files of 16 bits per channel: every bit, alpha and metadata from input to output."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging.samples import SRGB, STORED_AS, chunk, exif_with, saved
from PIL import Image

from maxim_deploy.errors import ImageError, UsageError
from maxim_deploy.imaging import from_unit, limits, to_unit
from maxim_deploy.imaging.files import check_output_holds, read_image, write_image
from maxim_deploy.imaging.picture import Picture

imagecodecs = pytest.importorskip("imagecodecs")
tifffile = pytest.importorskip("tifffile")

SUFFIXES = (".png", ".tif")
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)


def png(pixels: np.ndarray, *chunks: bytes) -> bytes:
    """Written by hand, so that reading is not tested against its own library."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    body = chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    channels = pixels.shape[2]
    options = {
        "photometric": "rgb" if channels > 2 else "minisblack",
        "extrasamples": ["unassalpha"] if channels in (2, 4) else [],
        "metadata": None,
        **options,
    }
    tifffile.imwrite(buffer, pixels.squeeze(2) if channels == 1 else pixels, **options)
    return buffer.getvalue()


def read(folder: Path, content: bytes) -> Picture:
    (folder / "in").write_bytes(content)
    return read_image(folder / "in")


def stored(path: Path) -> np.ndarray:
    """[H, W, C] as other programs see it."""
    pixels = imagecodecs.png_decode(path.read_bytes()) if path.suffix == ".png" else None
    pixels = tifffile.imread(path) if pixels is None else pixels
    return pixels.reshape(*pixels.shape[:2], -1)


# What comes back


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", [png, tiff])
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (64, 33)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_bit_goes_from_file_to_file(tmp_path, kind, suffix, shape, channels) -> None:
    pixels = noise(*shape, channels)
    pixels[0, 0] = 0xFFFE  # its low bit, and the low byte of others, are what 8 bits would drop
    if channels in (2, 4):
        pixels[0, :, -1] = 0  # colour below full transparency is kept too
    picture = read(tmp_path, kind(pixels))
    assert picture.rgb.dtype == np.uint16 and picture.rgb.flags.c_contiguous
    assert picture.is_grey == (channels < 3)
    assert (picture.alpha is None) == (channels in (1, 3))
    write_image(tmp_path / f"out{suffix}", picture.rgb, like=picture)
    assert np.array_equal(stored(tmp_path / f"out{suffix}"), pixels)
    back = read_image(tmp_path / f"out{suffix}")
    assert np.array_equal(back.rgb, picture.rgb)
    assert back.is_grey == picture.is_grey


def test_the_networks_range_holds_all_65536_levels() -> None:
    levels = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(from_unit(to_unit(levels), levels.dtype), levels)


@pytest.mark.parametrize(
    "options",
    [
        {"bigtiff": True},
        {"byteorder": ">"},
        {"tile": (32, 32)},
        {"rowsperstrip": 5},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib"},
    ],
)
def test_tiff_in_many_layouts(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = noise(40, 50, 4)
    picture = read(tmp_path, tiff(pixels, **options))
    assert np.array_equal(np.dstack([picture.rgb, picture.alpha]), pixels)


def test_tiff_in_planes(tmp_path: Path) -> None:
    pixels = noise(40, 50, 3)
    buffer = io.BytesIO()
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate", metadata=None)
    assert np.array_equal(read(tmp_path, buffer.getvalue()).rgb, pixels)


def test_white_is_zero(tmp_path: Path) -> None:
    pixels = noise(4, 5, 1)
    picture = read(tmp_path, tiff(pixels, photometric="miniswhite"))
    assert picture.is_grey
    assert np.array_equal(picture.rgb, np.repeat(65535 - pixels, 3, axis=-1))


def test_premultiplied_alpha_is_divided_out(tmp_path: Path) -> None:
    pixels = np.uint16([[[100, 200, 300, 1000], [65535, 0, 9, 65535], [5, 5, 5, 0]]])
    picture = read(tmp_path, tiff(pixels, extrasamples=["assocalpha"]))
    assert picture.rgb.tolist() == [[[6554, 13107, 19661], [65535, 0, 9], [0, 0, 0]]]
    assert picture.alpha.tolist() == [[1000, 65535, 0]]


def test_a_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    pixels = np.uint16([[[1, 2, 3], [1, 2, 4]]])
    picture = read(tmp_path, png(pixels, chunk(b"tRNS", struct.pack(">3H", 1, 2, 4))))
    assert picture.alpha.tolist() == [[65535, 0]]


def test_grey_is_weighted_as_pillow_does(tmp_path: Path) -> None:
    rgb = noise(9, 8, 3) // 256 * 257  # 8-bit levels spread over 16 bits
    write_image(tmp_path / "a.png", rgb, like=Picture(rgb, is_grey=True))
    expected = Image.fromarray((rgb // 257).astype(np.uint8)).convert("L")
    grey = stored(tmp_path / "a.png")[..., 0]
    assert np.abs(grey / 257 - np.asarray(expected)).max() <= 0.51


# Metadata


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("kind", ["png", "tiff", "bigtiff"])
def test_orientation_is_applied_and_then_gone(tmp_path, kind: str, orientation: int) -> None:
    upright = noise(5, 7, 3)
    pixels = np.ascontiguousarray(STORED_AS[orientation](upright))
    if kind == "png":
        exif = exif_with({0x0112: orientation}).removeprefix(b"Exif\0\0")
        content = png(pixels, chunk(b"eXIf", exif))
    else:
        tag = (0x0112, 3, 1, orientation, True)
        content = tiff(pixels, extratags=[tag], bigtiff=kind == "bigtiff")
    picture = read(tmp_path, content)
    assert np.array_equal(picture.rgb, upright)
    for name in ("b.png", "b.tif"):
        write_image(tmp_path / name, picture.rgb, like=picture)
        assert np.array_equal(read_image(tmp_path / name).rgb, upright)
        with Image.open(tmp_path / name) as image:
            assert 0x0112 not in image.getexif()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 4])
def test_profile_and_exif_are_kept(tmp_path, suffix: str, order: str, channels: int) -> None:
    """From 8-bit JPEG, whose EXIF Pillow wrote, to PNG and TIFF of 16 bits and back twice."""
    block = Image.Exif()
    block.endian = order
    block.update({0x0100: 999, 0x010F: "ACME", 0x011A: 300.0, 0x8769: {0x9003: "2001:02:03"}})
    path = saved(tmp_path / "a.jpg", Image.new("L", (6, 8)), exif=block, icc_profile=SRGB)
    like = read_image(path)
    pixels = noise(8, 6, channels)
    alpha = pixels[..., 3] if channels == 4 else None
    picture = Picture(pixels[..., :3].repeat(3 // min(channels, 3), -1), alpha, channels == 1)
    for name in (f"b{suffix}", "c.png", "d.tif"):
        kept = Picture(picture.rgb, picture.alpha, picture.is_grey, like.icc_profile, like.exif)
        write_image(tmp_path / name, picture.rgb, like=kept)
        like = picture = read_image(tmp_path / name)
    assert np.array_equal(stored(tmp_path / "d.tif"), pixels)
    assert picture.icc_profile == SRGB
    exif = Image.Exif()
    exif.load(picture.exif)
    assert (0x0100 in exif, exif[0x010F], float(exif[0x011A])) == (False, "ACME", 300.0)
    assert exif.get_ifd(0x8769) == {0x9003: "2001:02:03"}


def test_the_exif_of_a_png_is_bare(tmp_path: Path) -> None:
    """Pillow takes the prefix that JPEG has, other programs do not."""
    write_image(
        tmp_path / "a.png", noise(2, 2, 3), like=Picture(noise(2, 2, 3), exif=exif_with({}))
    )
    content = (tmp_path / "a.png").read_bytes()
    assert content[content.index(b"eXIf") + 4 :].startswith((b"MM\0*", b"II*\0"))


def test_what_we_write_has_no_complaints_from_other_readers(tmp_path: Path, caplog) -> None:
    exif = exif_with({0x010E: "odd"})
    picture = Picture(noise(8, 6, 3), noise(8, 6), icc_profile=SRGB + b"x", exif=exif)
    write_image(tmp_path / "a.tif", picture.rgb, like=picture)
    with caplog.at_level(logging.DEBUG), tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
        assert file.pages[0].dataoffsets[0] % 2 == 0
        assert file.pages[0].tags["Make"].value == "ACME"
        assert file.pages[0].tags["ExifTag"].value["DateTimeOriginal"]
    with Image.open(tmp_path / "a.tif") as image:  # as 8 bits, which is what Pillow can
        assert np.abs(np.asarray(image)[..., :3].astype(int) - picture.rgb // 256).max() <= 1
    assert caplog.records == []


def test_damaged_exif_costs_the_exif_only(tmp_path: Path, caplog) -> None:
    pixels = noise(4, 4, 3)
    picture = read(tmp_path, png(pixels, chunk(b"eXIf", b"rubbish!" * 3)))
    assert np.array_equal(picture.rgb, pixels)
    assert picture.exif is None
    assert "damaged EXIF is left out" in caplog.text


# What is refused


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_formats_of_8_bits_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ImageError, match=r"cannot hold the 16 bits .* write \.png or \.tif"):
        check_output_holds(tmp_path / f"a{suffix}", Picture(noise(2, 2, 3)))
    with pytest.raises(ImageError, match="cannot hold the 16 bits"):
        write_image(
            tmp_path / f"a{suffix}", noise(2, 2, 3), like=Picture(np.zeros((2, 2, 3), "u1"))
        )
    assert list(tmp_path.iterdir()) == []


def test_alpha_of_another_depth_is_a_usage_error(tmp_path: Path) -> None:
    eight_bit = Picture(np.zeros((2, 2, 3), np.uint8), alpha=np.zeros((2, 2), np.uint8))
    with pytest.raises(UsageError, match=r"alpha to write \| uint8 \[2, 2\] \| expected uint16"):
        write_image(tmp_path / "a.png", noise(2, 2, 3), like=eight_bit)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (noise(4, 4, 3).astype(np.int16), {}),
        (noise(4, 4, 4), {"photometric": "separated", "extrasamples": []}),
    ],
)
def test_other_samples_in_tiff_are_refused(tmp_path: Path, pixels, options) -> None:
    with pytest.raises(ImageError, match=r"in' \| holds samples of 16 bits.*convert the file"):
        read(tmp_path, tiff(pixels, **options))


def test_missing_strips_are_refused_and_not_black(tmp_path: Path) -> None:
    content = bytearray(tiff(noise(9, 4, 3), rowsperstrip=3))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        sizes = file.pages[0].tags["StripByteCounts"]
    content[sizes.valueoffset : sizes.valueoffset + sizes.valuebytecount] = bytes(
        sizes.valuebytecount
    )
    with pytest.raises(ImageError, match="cannot be read: parts of its pixels are missing"):
        read(tmp_path, bytes(content))


def test_several_frames_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, noise(3, 5, 6, 3), photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match="has 2 frames or more, and all but one"):
        read(tmp_path, buffer.getvalue())


def test_a_pixel_of_16_bits_takes_twice_the_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "available_bytes", lambda: 2 * 7 * 200)
    for kind in (png, tiff):
        assert read(tmp_path, kind(noise(10, 20, 3))).rgb.shape == (10, 20, 3)
        with pytest.raises(ImageError, match=r"in' \| 15x14, 210 pixels"):
            read(tmp_path, kind(noise(15, 14, 3)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [png, tiff])
def test_damaged_files_raise_nothing_but_image_errors(tmp_path: Path, kind) -> None:
    random = np.random.default_rng(0)
    good = kind(noise(20, 30, 3))
    for cut in (len(good) // 2, len(good) - 100):
        with pytest.raises(ImageError, match="cannot be read"):
            read(tmp_path, good[:cut])
    for _ in range(100):
        bad = np.frombuffer(good, np.uint8).copy()
        bad[random.integers(0, 300, 5)] = random.integers(0, 256, 5)
        try:
            (tmp_path / "in").write_bytes(bad.tobytes())
            picture = read_image(tmp_path / "in", max_pixels=1_000_000)
        except ImageError:
            continue
        assert picture.rgb.ndim == 3
