"""Write TIFF: an EXIF block (a TIFF file without pixels), then pixels, then a directory."""

from __future__ import annotations

import struct
import zlib
from itertools import accumulate
from typing import Any

from numpy.typing import NDArray

from maxim_deploy.imaging.formats import exif, photoshop
from maxim_deploy.imaging.formats.directory import Entries, Entry, directory_bytes, longs, shorts
from maxim_deploy.imaging.formats.samples import samples_from_picture
from maxim_deploy.imaging.formats.tiff_tags import Tag
from maxim_deploy.imaging.metadata import Resolution
from maxim_deploy.imaging.picture import Picture

_PLAIN = 2
"""Kind of extra sample: alpha by which colours are not multiplied."""

_STRIP = 2**20
"""Approximate bytes of pixels that are compressed at a time."""


def tiff_from_picture(picture: Picture) -> list[bytes | memoryview]:
    """The content of a TIFF file: deflated strips, and EXIF at its former offsets."""
    entries: Entries = {}
    order = "<"
    block = exif.new_block(order)
    if picture.exif:
        # The block is the beginning of the file, so its offsets stay valid.
        block = bytearray(picture.exif.removeprefix(exif.PREFIX))
        entries, order = exif.exif_entries(picture.exif)
    pixels = samples_from_picture(picture)
    rows = max(1, _STRIP // (pixels.nbytes // len(pixels)))
    strips = [_strip(pixels[top : top + rows], order) for top in range(0, len(pixels), rows)]
    block.extend(bytes(len(block) % 2))
    starts = list(accumulate(map(len, strips), initial=len(block)))
    entries.update(_layout(pixels, order, rows, starts[:-1], list(map(len, strips))))
    entries.update(_metadata(picture, order))
    end = starts[-1]  # even
    directory = directory_bytes(entries, order, end)
    if end + len(directory) >= 2**32:
        raise ValueError("TIFF holds less than 4 GiB | write .png")
    block[4:8] = struct.pack(f"{order}I", end)
    return [bytes(block), *strips, directory]


def _strip(rows: NDArray[Any], order: str) -> bytes:
    steps = rows.copy()
    steps[:, 1:] -= rows[:, :-1]  # modulo 2^8 or 2^16
    stored = steps.astype(f"{order}u{steps.itemsize}", copy=False)
    packed = zlib.compress(stored.tobytes(), level=1)
    return packed + bytes(len(packed) % 2)  # each strip begins at an even offset


def _layout(
    pixels: NDArray[Any], order: str, rows: int, starts: list[int], sizes: list[int]
) -> Entries:
    height, width, channels = pixels.shape
    layout: Entries = {
        Tag.WIDTH: longs(order, width),
        Tag.LENGTH: longs(order, height),
        Tag.BITS: shorts(order, *[8 * pixels.itemsize] * channels),
        Tag.COMPRESSION: shorts(order, 8),  # deflate
        Tag.PHOTOMETRIC: shorts(order, 1 if channels < 3 else 2),
        Tag.OFFSETS: longs(order, *starts),
        Tag.SAMPLES: shorts(order, channels),
        Tag.ROWS: longs(order, rows),
        Tag.COUNTS: longs(order, *sizes),
        Tag.PREDICTOR: shorts(order, 2),  # differences along a row
    }
    return layout | ({Tag.EXTRA: shorts(order, _PLAIN)} if channels in (2, 4) else {})


def _metadata(picture: Picture, order: str) -> Entries:
    metadata = picture.metadata
    records = photoshop.iptc_from_resources(metadata.photoshop or b"")
    data = {
        Tag.ICC: (7, picture.icc_profile),
        Tag.XMP: (1, metadata.xmp),
        Tag.PHOTOSHOP: (7, metadata.photoshop),
        Tag.IPTC: (7, records),
    }
    entries: Entries = {
        tag: Entry(kind, len(value), value) for tag, (kind, value) in data.items() if value
    }
    resolution = metadata.resolution
    if resolution and resolution != exif.resolution_from_exif(picture.exif):
        entries.update(_density(resolution, order))
    return entries


def _density(resolution: Resolution, order: str) -> Entries:
    exact = resolution.in_unit("centimetre", "inch")
    unit = {name: number for number, name in exif.UNITS.items()}[exact.unit]
    return {
        exif.X_RESOLUTION: exif.rational_entry(order, exact.x),
        exif.Y_RESOLUTION: exif.rational_entry(order, exact.y),
        exif.RESOLUTION_UNIT: shorts(order, unit),
    }
