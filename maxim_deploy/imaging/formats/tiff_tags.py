"""Tags of TIFF that are read and written."""

from __future__ import annotations

from enum import IntEnum


class Tag(IntEnum):
    """Tags of the first directory of a file."""

    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    OFFSETS = 273
    SAMPLES = 277
    ROWS = 278
    COUNTS = 279
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    EXTRA = 338
    FORMAT = 339
    XMP = 700
    IPTC = 33723
    PHOTOSHOP = 34377
    ICC = 34675
