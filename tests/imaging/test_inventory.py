"""Every row of the inventory, walked through with a file made for it."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imaging.samples import SRGB, chunk, exif_with, saved
from PIL import Image, features

from maxim_deploy.errors import ImageError
from maxim_deploy.imaging.files import read_image, write_image
from maxim_deploy.imaging.inventory import HOLDS, IMAGES, THINGS, Carried, table
from maxim_deploy.imaging.metadata import Metadata, Resolution
from maxim_deploy.imaging.picture import Picture

tifffile = pytest.importorskip("tifffile")
imagecodecs = pytest.importorskip("imagecodecs")

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
RGB = Image.fromarray(PIXELS)
RGBA = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))
ICC = b"ICC_PROFILE\0"
TEXT = "José, 写真".encode()
EXIF = exif_with({0x010E: "title"})
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><t>%s</t></x:xmpmeta>" % TEXT
IPTC = b"\x1c\x02\x78" + struct.pack(">H", len(TEXT)) + TEXT
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
DPI = Resolution(Fraction(300), Fraction(300), "inch")
METRE = Resolution(Fraction(11811), Fraction(11811), "metre")
CICP = (b"cICP", bytes([9, 16, 0, 1]))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Files of each kind


def png(*chunks: bytes, image: Image.Image = RGB) -> bytes:
    plain = encoded(image, "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]


def profile_as_text(name: bytes, data: bytes) -> bytes:
    text = b"\n%s\n%8d\n%s\n" % (name, len(data), data.hex().encode())
    return chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text))


def jpeg(*segments: tuple[int, bytes], image: Image.Image = RGB, end: bytes = b"") -> bytes:
    plain = encoded(image, "JPEG")
    parts = [struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data for kind, data in segments]
    at = 20 if plain[6:10] == b"JFIF" else 2
    return plain[:at] + b"".join(parts) + plain[at:] + end


def jfif(unit: int, x: int, y: int) -> bytes:
    plain = jpeg()
    return plain[:13] + struct.pack(">BHH", unit, x, y) + plain[18:]


def twelve_bits() -> bytes:
    plain = bytearray(jpeg())
    plain[plain.index(b"\xff\xc0") + 4] = 12
    return bytes(plain)


def tiff(pixels: np.ndarray = PIXELS, tags: tuple[Any, ...] = (), **options: Any) -> bytes:
    buffer = io.BytesIO()
    photometric = "rgb" if pixels.shape[-1] > 2 else "minisblack"
    options = {"photometric": photometric, "metadata": None, "extratags": tags, **options}
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def pages(kind: int) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(PIXELS, photometric="rgb", metadata=None)
        writer.write(PIXELS[::2, ::2], photometric="rgb", metadata=None, subfiletype=kind)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    frames = [RGB, Image.fromarray(255 - PIXELS)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def gif(*extensions: bytes, image: Image.Image = RGB, **options: Any) -> bytes:
    plain = encoded(image, "GIF", **options)
    at = 13 + 3 * 2 ** ((plain[10] & 7) + 1)  # behind the colours of the whole file
    return plain[:at] + b"".join(extensions) + plain[at:]


def bmp_with_profile() -> bytes:
    plain = encoded(RGB, "BMP")
    pixels = plain[54:]
    header = bytearray(124)
    header[:40] = struct.pack("<I", 124) + plain[18:54]
    header[56:60] = b"DEBM"
    header[112:120] = struct.pack("<II", 124 + len(pixels), len(SRGB))
    file = b"BM" + struct.pack("<IHHI", 138 + len(pixels) + len(SRGB), 0, 0, 138)
    return file + bytes(header) + pixels + SRGB


def avif(**options: Any) -> bytes:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    return encoded(options.pop("image", RGB), "AVIF", **options)


def deep_avif() -> bytes:
    avif()  # skips if there is none
    return imagecodecs.avif_encode(PIXELS.astype("u2") * 4, bitspersample=10)


def patched(content: bytes, mark: bytes, skip: int, new: bytes) -> bytes:
    at = content.index(mark) + skip
    return content[:at] + new + content[at + len(new) :]


def xmp_extension(data: bytes) -> tuple[int, bytes]:
    return (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + data)


XMP_SEGMENT = (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
EXTENSION = xmp_extension(b"0" * 32 + bytes(8) + b"more")
INTERNATIONAL = chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP)
WITH_THUMBNAIL = b"Exif\0\0" + (
    b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x05\0\0\0\x1a\0\0\0\x20\0\0\0ACME\0\0"
    b"\x02\0\x01\x02\x04\0\x01\0\0\0\x3e\0\0\0\x02\x02\x04\0\x01\0\0\0\x04\0\0\0\0\0\0\0old!"
)

# Kind and thing -> a file that has it, and what is read of it, or the words that name it.
READ: dict[tuple[str, str], tuple[Callable[[], bytes], Any]] = {
    ("PNG", "transparency"): (lambda: png(image=RGBA), None),
    ("PNG", "16 bits per channel"): (
        lambda: imagecodecs.png_encode(PIXELS.astype("u2")),
        None,
    ),
    ("PNG", "ICC profile"): (lambda: png(chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB))), SRGB),
    ("PNG", "EXIF"): (lambda: png(chunk(b"eXIf", EXIF[6:])), EXIF),
    ("PNG", "XMP"): (lambda: png(INTERNATIONAL), XMP),
    ("PNG", "IPTC and Photoshop resources"): (
        lambda: png(profile_as_text(b"iptc", RESOURCES)),
        RESOURCES,
    ),
    ("PNG", "resolution"): (
        lambda: png(chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))),
        METRE,
    ),
    ("PNG", "text chunks"): (
        lambda: png(chunk(b"tEXt", b"Author\0" + TEXT)),
        ((b"tEXt", b"Author\0" + TEXT),),
    ),
    ("PNG", "colour chunks"): (lambda: png(chunk(*CICP)), (CICP,)),
    ("PNG", "other chunks"): (lambda: png(chunk(b"abCd", b"?")), ((b"abCd", b"?"),)),
    ("PNG", "chunks that depend on the pixels"): (lambda: png(chunk(b"bKGD", bytes(6))), "bKGD"),
    ("PNG", "data behind the picture"): (lambda: png() + b"old", "3 bytes behind the picture"),
    ("PNG", "damaged chunks"): (lambda: png(chunk(b"tEXt", b"a\0b")[:-1] + b"?"), "chunk tEXt"),
    ("PNG", "missing end marker"): (lambda: png()[:-12], "the end marker is missing"),
    ("PNG", "further frames"): (lambda: animated("PNG"), "has 2 frames"),
    ("PNG", "unknown critical chunks"): (lambda: png(chunk(b"CgBI", b"")), "chunk CgBI"),
    ("JPEG", "ICC profile"): (
        lambda: jpeg((0xE2, ICC + b"\2\2" + SRGB[9:]), (0xE2, ICC + b"\1\2" + SRGB[:9])),
        SRGB,
    ),
    ("JPEG", "EXIF"): (lambda: jpeg((0xE1, EXIF)), EXIF),
    ("JPEG", "XMP"): (lambda: jpeg(XMP_SEGMENT), XMP),
    ("JPEG", "extended XMP"): (lambda: jpeg(XMP_SEGMENT, EXTENSION), (EXTENSION[1],)),
    ("JPEG", "IPTC and Photoshop resources"): (
        lambda: jpeg((0xED, b"Photoshop 3.0\0" + RESOURCES)),
        RESOURCES,
    ),
    ("JPEG", "resolution"): (lambda: jfif(1, 300, 300), DPI),
    ("JPEG", "comments"): (lambda: jpeg((0xFE, TEXT), (0xFE, b"two")), (TEXT, b"two")),
    ("JPEG", "thumbnail"): (lambda: jpeg((0xE1, WITH_THUMBNAIL)), "thumbnail"),
    ("JPEG", "gain maps and further pictures"): (lambda: animated("MPO"), "gain map"),
    ("JPEG", "data behind the picture"): (lambda: jpeg(end=b"a video"), "7 bytes behind"),
    ("JPEG", "other segments"): (lambda: jpeg((0xEB, b"JP\0\1")), "segment APP11 (JP)"),
    ("JPEG", "broken profile of CMYK"): (
        lambda: jpeg((0xE2, ICC + b"\1\1" + SRGB), image=RGB.convert("CMYK")),
        "the ICC profile is damaged or not for CMYK",
    ),
    ("JPEG", "missing end marker"): (lambda: jpeg()[:-2], "the end marker is missing"),
    ("JPEG", "12 bits per channel"): (twelve_bits, "12"),
    ("TIFF", "transparency"): (lambda: tiff(np.asarray(RGBA), extrasamples=["unassalpha"]), None),
    ("TIFF", "16 bits per channel"): (lambda: tiff(PIXELS.astype("u2")), None),
    ("TIFF", "ICC profile"): (lambda: tiff(iccprofile=SRGB), SRGB),
    ("TIFF", "EXIF"): (lambda: tiff(tags=((0x010E, 7, len(TEXT), TEXT, True),)), TEXT),
    ("TIFF", "XMP"): (lambda: tiff(tags=((700, 1, len(XMP), XMP, True),)), XMP),
    ("TIFF", "IPTC and Photoshop resources"): (
        lambda: tiff(tags=((33723, 7, len(IPTC), IPTC, True),)),
        RESOURCES,
    ),
    ("TIFF", "resolution"): (lambda: tiff(resolution=(300, 300), resolutionunit="inch"), DPI),
    ("TIFF", "extra samples"): (
        lambda: tiff(np.dstack([PIXELS] * 2), extrasamples=["unassalpha"] + 2 * ["unspecified"]),
        "2 extra samples",
    ),
    ("TIFF", "reduced pages and masks"): (lambda: pages(1), "reduced pictures"),
    ("TIFF", "Photoshop's layers"): (
        lambda: tiff(tags=((37724, 7, 6, b"layers", True),)),
        "Photoshop's layers",
    ),
    ("TIFF", "further pages"): (lambda: pages(0), "has 2 frames"),
    ("TIFF", "floating-point samples"): (lambda: tiff(PIXELS.astype("f4")), "floating-point"),
    ("TIFF", "32 bits per channel"): (lambda: tiff(PIXELS.astype("u4")), "has 32 bits"),
    ("TIFF", "raw photographs"): (
        lambda: tiff(tags=((50706, 1, 4, bytes([1, 4, 0, 0]), True),)),
        "raw photograph",
    ),
    ("WebP", "transparency"): (lambda: encoded(RGBA, "WEBP"), None),
    ("WebP", "ICC profile"): (lambda: encoded(RGB, "WEBP", icc_profile=SRGB), SRGB),
    ("WebP", "EXIF"): (lambda: encoded(RGB, "WEBP", exif=EXIF), EXIF),
    ("WebP", "XMP"): (lambda: encoded(RGB, "WEBP", xmp=XMP), XMP),
    ("WebP", "further frames"): (lambda: animated("WEBP"), "has 2 frames"),
    ("AVIF", "transparency"): (lambda: avif(image=RGBA), None),
    ("AVIF", "ICC profile"): (lambda: avif(icc_profile=SRGB), SRGB),
    ("AVIF", "EXIF"): (lambda: avif(exif=EXIF), EXIF),
    ("AVIF", "XMP"): (lambda: avif(xmp=XMP), XMP),
    ("AVIF", "colour chunks"): (
        lambda: patched(avif(), b"colrnclx", 8, struct.pack(">HH", 9, 16)),
        (CICP,),
    ),
    ("AVIF", "gain maps and further pictures"): (
        lambda: patched(avif(exif=EXIF), b"title", 0, b"tmap!"),
        "gain map",
    ),
    ("AVIF", "further frames"): (
        lambda: avif(save_all=True, append_images=[RGB.rotate(180)]),
        "has 2 frames",
    ),
    ("AVIF", "10 bits per channel"): (deep_avif, "has 10 bits"),
    ("GIF", "transparency"): (lambda: encoded(RGBA.quantize(8), "GIF", transparency=0), None),
    ("GIF", "XMP"): (
        lambda: gif(b"\x21\xff\x0bXMP DataXMP" + XMP + b"\1" + bytes(range(255, -1, -1)) + b"\0"),
        XMP,
    ),
    ("GIF", "comments"): (lambda: gif(comment=TEXT), (TEXT,)),
    ("GIF", "ICC profile"): (lambda: gif(b"\x21\xff\x0bICCRGBG1012\1x\0"), "ICC profile"),
    ("GIF", "further frames"): (lambda: animated("GIF"), "has 2 frames"),
    ("BMP", "ICC profile"): (bmp_with_profile, SRGB),
    ("BMP", "resolution"): (lambda: encoded(RGB, "BMP", dpi=(299.9994, 299.9994)), METRE),
    ("PNM", "comments"): (lambda: b"P6 # " + TEXT + b"\n1 1 255\n123", (b" " + TEXT,)),
    ("PNM", "16 bits per channel"): (lambda: b"P6 1 1 65535\n123456", "has 16 bits"),
}

LIKE = Picture(
    PIXELS,
    icc_profile=SRGB,
    exif=EXIF,
    metadata=Metadata(
        xmp=XMP,
        xmp_extension=(EXTENSION[1],),
        photoshop=RESOURCES,
        resolution=DPI,
        comments=(TEXT,),
        text=((b"tEXt", b"Author\0" + TEXT),),
        colour=(CICP,),
        others=((b"abCd", b"?"),),
    ),
)
"""A picture that carries all there is."""

SUFFIX = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WebP": ".webp", "BMP": ".bmp"}


def rows(direction: str) -> list[Any]:
    of_direction = (row for row in IMAGES if row.kind.startswith(direction))
    return [pytest.param(row, id=f"{row.kind}: {row.thing}") for row in of_direction]


def test_there_is_a_row_for_every_file_here_and_a_file_for_every_row() -> None:
    kinds = [(row.kind.removeprefix("from "), row.thing) for row in IMAGES if "from " in row.kind]
    assert sorted(kinds) == sorted(READ)
    assert len(set(IMAGES)) == len({(row.kind, row.thing) for row in IMAGES})
    assert set(SUFFIX) == set(HOLDS)


@pytest.mark.parametrize("row", rows("from"))
def test_what_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture, row: Carried) -> None:
    make, expected = READ[row.kind.removeprefix("from "), row.thing]
    path = tmp_path / "in"
    path.write_bytes(make())
    caplog.set_level(logging.INFO)
    if row.outcome == "refused":
        with pytest.raises(ImageError, match=r"in' \| ") as caught:
            read_image(path)
        assert expected in str(caught.value)
        return
    picture = read_image(path)
    if row.outcome == "warned":
        assert "in': " in caplog.text and expected in caplog.text
        return
    assert caplog.text == "" and picture.left_out == ()
    if row.thing == "transparency":
        assert picture.alpha is not None and picture.alpha.min() < 255
    elif row.thing == "16 bits per channel":
        assert picture.rgb.dtype == np.uint16
    elif row.kind == "from TIFF" and row.thing == "EXIF":
        assert picture.exif is not None and expected in picture.exif
    else:
        assert THINGS[row.thing](picture) == expected


@pytest.mark.parametrize("row", rows("to"))
def test_what_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture, row: Carried) -> None:
    path = tmp_path / f"out{SUFFIX[row.kind.removeprefix('to ')]}"
    if row.thing == "mode and owner of a file that is replaced":
        path.touch()
        path.chmod(0o640)
        write_image(path, PIXELS)
        assert path.stat().st_mode & 0o777 == 0o640
        return
    like = LIKE
    if row.thing == "transparency":
        like = replace(LIKE, alpha=PIXELS[..., 0])
    elif row.thing == "16 bits per channel":
        like = replace(LIKE, rgb=PIXELS.astype(np.uint16))
    if row.outcome == "refused":
        with pytest.raises(ImageError, match="cannot hold"):
            write_image(path, like.rgb, like=like)
        return
    write_image(path, like.rgb, like=like)
    back = read_image(path)
    if row.outcome == "warned":
        assert f"left out: the {row.thing}" in caplog.text
        assert not THINGS[row.thing](back)
    elif row.thing == "transparency":
        assert np.array_equal(back.alpha, like.alpha)
    elif row.thing == "16 bits per channel":
        assert np.array_equal(back.rgb, like.rgb)
    else:
        check_kept(row, back)


def check_kept(row: Carried, back: Picture) -> None:
    found, expected = THINGS[row.thing](back), THINGS[row.thing](LIKE)
    if row.thing == "resolution":
        found, expected = (float(value.in_unit("metre").x) for value in (found, expected))
        assert found == pytest.approx(expected, rel=1e-4)
    elif row.thing == "EXIF" and row.kind == "to TIFF":
        assert b"title" in found and b"ACME" in found and b"2001:02:03" in found
    elif row.thing == "comments" and row.kind == "to PNG":
        assert (b"iTXt", b"Comment" + bytes(5) + TEXT) in back.metadata.text
    elif row.thing == "text chunks":
        assert set(expected) <= set(found)
    else:
        assert found == expected


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_the_owner_of_a_file_that_is_replaced(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", RGB)
    os.chown(path, 1234, 4321)
    write_image(path, PIXELS)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_an_owner_that_cannot_be_kept_costs_a_warning(tmp_path: Path, caplog, monkeypatch) -> None:
    path = saved(tmp_path / "a.png", RGB)
    os.chown(path, 1234, 4321)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    write_image(path, PIXELS)
    assert "a.png': its owner and group are not kept: Operation not permitted" in caplog.text


def test_the_documentation_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "what-files-keep.md"
    assert table(IMAGES) in page.read_text("utf-8")
