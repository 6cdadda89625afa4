"""Read TIFF: the tags of the first directory hold the metadata.

Pillow decodes 8 bits per channel, tifffile 16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from maxim_deploy._optional import require
from maxim_deploy.errors import ImageError
from maxim_deploy.imaging.formats import exif, photoshop
from maxim_deploy.imaging.formats.contents import Contents, Decoded
from maxim_deploy.imaging.formats.directory import (
    Entries,
    Header,
    read_directory,
    read_header,
)
from maxim_deploy.imaging.formats.pillow import decoded, opened
from maxim_deploy.imaging.formats.samples import decoded_from_samples
from maxim_deploy.imaging.formats.tiff_tags import Tag
from maxim_deploy.imaging.metadata import Metadata

WHITE = 65535

_SUBFILE, _SUB_DIRECTORIES, _LAYERS, _DNG = 254, 330, 37724, 50706
_MOST_PAGES = 100
"""Most reduced pictures and masks. A pyramid has ten."""

_REDUCED, _MASK = 1, 4  # bits of the kind of a directory

_MOST_SAMPLES = 16
_SMALL_TILE = 2**20
"""Tiles of up to this many pixels are always read."""

_UNSIGNED, _FLOAT = 1, 3
_PREMULTIPLIED, _PLAIN = 1, 2  # kinds of alpha
_COLOURS = {0: 1, 1: 1, 2: 3}
"""Colour channels by photometric interpretation: white is zero, black is zero, RGB."""


def contents(file: BinaryIO) -> Contents:
    """The contents of a TIFF file.

    Raises:
        ValueError: it is damaged beyond reading.
        ImageError: it holds unsupported samples, or a raw photograph.
    """
    header = read_header(file)
    pages = _pages(file, header)
    first = next(pages)
    tags = _Tags(first, header.order)
    if _DNG in first or (tags.number(_SUBFILE, 0) & _REDUCED and _SUB_DIRECTORIES in first):
        raise ImageError("is a raw photograph (DNG or similar), and its first picture is a preview")
    bits = max(tags.numbers(Tag.BITS) or (1,))
    if max(tags.numbers(Tag.FORMAT) or (1,)) == _FLOAT:
        raise ImageError(f"holds floating-point samples of {bits} bits | 8 and 16 bits are read")
    height, width = tags.number(Tag.LENGTH, 0), tags.number(Tag.WIDTH, 0)
    _check_layout(tags, height, width)
    decode = partial(_sixteen_bits, file, tags) if bits == 16 else partial(_eight_bits, file)
    found = Contents("TIFF", height, width, decode, bits)
    found.orientation = tags.number(exif.ORIENTATION, 0) or None
    kinds = [_Tags(page, header.order).number(_SUBFILE, 0) for page in pages]
    found.frames = 1 + sum(not kind & (_REDUCED | _MASK) for kind in kinds)
    found.left_out = list(_left_out(tags, len(kinds)))
    found.icc_profile = tags.data(Tag.ICC)
    found.exif = exif.exif_from_directory(file, header, first)
    found.metadata = Metadata(
        xmp=tags.data(Tag.XMP),
        photoshop=_resources(tags),
        resolution=exif.resolution_of(first, header.order),
    )
    return found


def _pages(file: BinaryIO, header: Header) -> Iterator[Entries]:
    """The first directory and the following ones, up to that of a second picture."""
    seen: set[int] = set()
    offset = header.first
    while offset and offset not in seen:
        if len(seen) > _MOST_PAGES:
            raise ValueError(f"it has more than {_MOST_PAGES} reduced pictures and masks")
        seen.add(offset)
        try:
            entries, offset = read_directory(file, header, offset)
        except ValueError:
            if len(seen) == 1:
                raise
            return  # an end that is damaged
        yield entries
        # A second picture is enough to refuse the file, so the rest is not read.
        is_picture = not _Tags(entries, header.order).number(_SUBFILE, 0) & (_REDUCED | _MASK)
        if is_picture and len(seen) > 1:
            return
    if not seen:
        raise ValueError("there is no directory")


def _check_layout(tags: _Tags, height: int, width: int) -> None:
    """Raise an error if decoding would take more memory or time than the picture justifies.

    Raises:
        ImageError: there are more channels or larger tiles than any picture has, or fewer tiles or
            strips than the picture needs.
    """
    if (samples := tags.number(Tag.SAMPLES, 1)) > _MOST_SAMPLES:
        raise ImageError(f"has {samples} samples per pixel | up to {_MOST_SAMPLES} are read")
    tile = tags.number(Tag.TILE_LENGTH, 0), tags.number(Tag.TILE_WIDTH, 0)
    # Tiles are padded at the picture's edge, and a picture may be smaller than one tile.
    if tile[0] * tile[1] > max(_SMALL_TILE, 4 * height * width):
        raise ImageError(
            f"has tiles of {tile[0]}x{tile[1]} in a picture of {height}x{width} pixels: it is "
            "damaged | save it again"
        )
    if 0 not in tile:
        needed = -(-height // tile[0]) * -(-width // tile[1])
    else:
        needed = -(-height // (tags.number(Tag.ROWS, height) or 1))
    if needed > max(tags.count(Tag.TILE_OFFSETS), tags.count(Tag.OFFSETS), 1):
        raise ImageError("cannot be read: parts of its pixels are missing")


class _Tags:
    """The tags of a directory as numbers and bytes."""

    def __init__(self, entries: Entries, order: str) -> None:
        self.entries, self.order = entries, order

    def numbers(self, tag: int) -> tuple[int, ...]:
        return self.entries[tag].numbers(self.order) if tag in self.entries else ()

    def number(self, tag: int, default: int) -> int:
        return next(iter(self.numbers(tag)), default)

    def count(self, tag: int) -> int:
        return self.entries[tag].count if tag in self.entries else 0

    def data(self, tag: int) -> bytes | None:
        return self.entries[tag].value or None if tag in self.entries else None


def _left_out(tags: _Tags, others: int) -> Iterator[str]:
    extras = tags.numbers(Tag.EXTRA)
    dropped = len(extras) - (extras[:1] in ((_PREMULTIPLIED,), (_PLAIN,)))
    if dropped > 0:
        yield f"{dropped} extra sample{'s' * (dropped > 1)} per pixel (channels of no colour)"
    if others or _SUB_DIRECTORIES in tags.entries:
        yield "the reduced pictures and masks beside the picture"
    if _LAYERS in tags.entries:
        yield "Photoshop's layers"


def _resources(tags: _Tags) -> bytes | None:
    resources = photoshop.without_thumbnails(tags.data(Tag.PHOTOSHOP) or b"") or b""
    records = tags.data(Tag.IPTC)
    if records and not photoshop.iptc_from_resources(resources):
        resources += photoshop.resources_from_iptc(records)
    return resources or None


class _AsStored(TiffImagePlugin.TiffImageFile):
    """Pillow turns a TIFF upright on decoding, and reports the upright size."""

    def load_end(self) -> None:
        self._size = self.im.size


def _eight_bits(
    file: BinaryIO, icc_profile: bytes | None, complain: Callable[[str], None]
) -> Decoded:
    file.seek(0)
    return decoded(opened(_AsStored, file), icc_profile, complain)


def _sixteen_bits(
    file: BinaryIO, tags: _Tags, icc_profile: bytes | None, _complain: Callable[[str], None]
) -> Decoded:
    require("imagecodecs", "hdr")  # tifffile uses it for decompression
    file.seek(0)
    with require("tifffile", "hdr").TiffFile(file) as tiff:
        page = tiff.pages[0]
        _check_samples(page)
        stored = page.asarray(squeeze=False)  # planes, depth, H, W, channels
    pixels = np.moveaxis(stored[:, 0], 0, -1).reshape(*stored.shape[2:4], -1)
    colours = _COLOURS[page.photometric]
    has_alpha = tags.numbers(Tag.EXTRA)[:1] in ((_PREMULTIPLIED,), (_PLAIN,))
    pixels = pixels[..., : colours + has_alpha]
    if page.photometric == 0:
        pixels = np.concatenate([WHITE - pixels[..., :1], pixels[..., 1:]], axis=-1)
    if tags.number(Tag.EXTRA, 0) == _PREMULTIPLIED:
        pixels = _not_premultiplied(pixels, colours)
    return decoded_from_samples(pixels, icc_profile)


def _check_samples(page: Any) -> None:
    """Raise an error for samples that `Picture` cannot hold."""
    channels = _COLOURS.get(page.photometric, 0) + len(page.extrasamples)
    if (
        (page.bitspersample, page.sampleformat, page.imagedepth) != (16, _UNSIGNED, 1)
        or page.photometric not in _COLOURS
        or page.samplesperpixel != channels
    ):
        raise ImageError(
            f"holds samples of {page.bitspersample} bits, format {page.sampleformat}, photometric "
            f"interpretation {int(page.photometric)}, {page.samplesperpixel} per pixel | of 16-bit "
            "TIFF, unsigned RGB and grey are read, with or without alpha | convert the file"
        )
    if 0 in page.databytecounts:
        raise ImageError("cannot be read: parts of its pixels are missing")


def _not_premultiplied(pixels: NDArray[np.uint16], colours: int) -> NDArray[np.uint16]:
    """Colours divided by alpha, rounded. Where alpha is 0 they are unknown and become black."""
    alpha = pixels[..., colours:].astype(np.uint64)
    plain = (pixels[..., :colours] * np.uint64(WHITE) + alpha // 2) // np.maximum(alpha, 1)
    plain = np.where(alpha > 0, np.minimum(plain, WHITE), 0)
    return np.concatenate([plain, alpha], axis=-1).astype(np.uint16)
