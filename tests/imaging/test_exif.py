"""EXIF keeps its bytes: text in any encoding, and makers' notes with offsets of their own."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maxim_deploy.imaging.files import read_image, write_image
from maxim_deploy.imaging.formats.directory import Header, read_directory, read_header
from maxim_deploy.imaging.formats.exif import exif_entries, upright_exif

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
TEXTS = {
    "UTF-8": "José © 2024, 写真".encode(),
    "Latin-1": "José © 2024".encode("latin-1"),
    "Shift-JIS": "写真の説明".encode("shift-jis"),
    "any bytes": bytes(range(128, 256)),
}


def block(order: str, text: bytes, *, thumbnail: bytes = b"", gap: bytes = b"") -> bytes:
    """An EXIF block by hand: description, orientation, old width, maker's note; a thumbnail."""
    text += b"\0"
    start = 8 + 2 + 4 * 12 + 4
    note_at = start + len(text) + len(text) % 2
    # A maker's note that points at its own text by an offset into the block.
    note = b"ACME" + struct.pack(f"{order}I", note_at + 8) + b"secret"
    nested_at = note_at + len(note)
    nested = struct.pack(f"{order}HHHII", 1, 0x927C, 7, len(note), note_at) + bytes(4)
    next_at = nested_at + len(nested) if thumbnail else 0
    rows = [
        struct.pack(f"{order}HHII", 0x0100, 4, 1, 999),
        struct.pack(f"{order}HHII", 0x010E, 2, len(text), start),
        struct.pack(f"{order}HHIHH", 0x0112, 3, 1, 6, 0),
        struct.pack(f"{order}HHII", 0x8769, 4, 1, nested_at),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    table = struct.pack(f"{order}H", 4) + b"".join(rows) + struct.pack(f"{order}I", next_at)
    whole = (head + table + text).ljust(note_at, b"\0") + note + nested
    if thumbnail:
        at = next_at + 2 + 24 + 4
        whole += struct.pack(f"{order}H", 2)
        whole += struct.pack(f"{order}HHII", 0x0201, 4, 1, at)
        whole += struct.pack(f"{order}HHII", 0x0202, 4, 1, len(thumbnail))
        whole += bytes(4) + thumbnail + gap
    return b"Exif\0\0" + whole


def note_of(file: io.BytesIO, header: Header) -> bytes:
    """What the maker's note of a file points at."""
    entries, _ = read_directory(file, header, header.first)
    nested, _ = read_directory(file, header, entries[0x8769].numbers(header.order)[0])
    (offset,) = struct.unpack(f"{header.order}I", nested[0x927C].value[4:8])
    file.seek(offset)
    return file.read(6)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_text_and_notes_come_through_every_format(tmp_path: Path, name, order, suffix) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=block(order, TEXTS[name]), quality=100)
    picture = read_image(tmp_path / "a.jpg")
    assert picture.rgb.shape == (5, 6, 3)  # turned
    write_image(tmp_path / f"b{suffix}", picture.rgb, like=picture)
    back = read_image(tmp_path / f"b{suffix}")
    assert back.rgb.shape == (5, 6, 3)
    assert back.exif is not None
    entries, found_order = exif_entries(back.exif)
    assert found_order == order
    assert entries[0x010E].value == TEXTS[name] + b"\0"
    assert not {0x0100, 0x0112} & entries.keys()
    if suffix == ".tif":
        file = io.BytesIO((tmp_path / "b.tif").read_bytes())
    else:
        file = io.BytesIO(back.exif[6:])
    assert note_of(file, read_header(file)) == b"secret"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("gap", [b"", b"what follows"])
def test_a_thumbnail_leaves_nothing_behind(order: str, gap: bytes) -> None:
    before = block(order, b"title", thumbnail=b"\xff\xd8 the old picture", gap=gap)
    found = upright_exif(before)
    assert (found.orientation, found.had_thumbnail) == (6, True)
    assert found.block is not None and b"old picture" not in found.block
    assert found.block.endswith(gap)
    assert upright_exif(found.block) == (None, found.block, False, ())


@pytest.mark.parametrize("keep", [3, 8, 20, 40])
def test_a_block_that_is_cut_off_is_damaged(keep: int) -> None:
    with pytest.raises(ValueError, match="TIFF|director|offset"):
        upright_exif(block("<", b"title")[: 6 + keep])


def test_entries_that_point_outside_are_left_out() -> None:
    whole = block("<", b"a long title")
    bad = whole.replace(struct.pack("<HHI", 0x010E, 2, 13), struct.pack("<HHI", 0x010E, 2, 99999))
    found = upright_exif(bad)
    assert found.block is not None
    assert set(exif_entries(found.block)[0]) == {0x8769}
    assert found.damaged == (0x010E,)


def test_the_resolution_turns_with_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif, dpi=(204, 98))
    resolution = read_image(tmp_path / "a.jpg").metadata.resolution
    assert resolution is not None and (resolution.x, resolution.y) == (98, 204)


@pytest.mark.parametrize(
    ("orientation", "xmp_says", "shape"), [(None, 6, (5, 6, 3)), (1, 6, (6, 5, 3))]
)
def test_the_orientation_of_xmp_counts_without_exif_and_is_then_gone(
    tmp_path: Path, orientation, xmp_says: int, shape
) -> None:
    xmp = b'<rdf:Description tiff:Orientation="%d"/>' % xmp_says
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.jpg", xmp=xmp, exif=exif)
    picture = read_image(tmp_path / "a.jpg")
    assert picture.rgb.shape == shape
    assert picture.metadata.xmp == b'<rdf:Description tiff:Orientation="1"/>'
