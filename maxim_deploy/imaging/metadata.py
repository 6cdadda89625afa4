"""What else is in a file: EXIF that turns a picture upright, tags that outlive it, frames."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from maxim_deploy.errors import ImageError
from maxim_deploy.imaging._reasons import reason

logger = logging.getLogger(__name__)

# Tags below 0x0219 say how a file stores its pixels, which the new file states for itself (some
# cameras write the old width there, and Pillow would believe it), except for these.
_LAST_LAYOUT_TAG = 0x0218
_DESCRIPTIVE_TAGS = frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.HostComputer,
    }
)
# XMP, IPTC, Photoshop resources and the ICC profile live among a TIFF's tags but are not EXIF.
_FOREIGN_TAGS = frozenset({0x02BC, 0x83BB, 0x8649, 0x8773})


def turn_upright(path: Path, image: Image.Image) -> bytes | None:
    """Apply the EXIF orientation in place; the EXIF that then still holds."""

    def turn() -> Image.Exif:
        ImageOps.exif_transpose(image, in_place=True)
        return image.getexif()

    return orientation_and_exif(path, turn)[1]


def orientation_and_exif(path: Path, load: Callable[[], Image.Exif]) -> tuple[int, bytes | None]:
    """The orientation that `load` finds, 1 to 8, and the EXIF that holds once it is applied.

    Damaged metadata costs a warning, and not the picture.
    """
    try:
        exif = load()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        for tag in [tag for tag in exif if not _outlives_the_file(tag)]:
            del exif[tag]
        exif.bigtiff = False  # an EXIF block is not, whatever the file was
        return orientation, exif.tobytes() if exif else None
    except Exception as error:  # of nearly any type
        logger.warning("image '%s': damaged EXIF is left out: %s", path, reason(error))
        return 1, None


def _outlives_the_file(tag: int) -> bool:
    return tag in _DESCRIPTIVE_TAGS or (tag > _LAST_LAYOUT_TAG and tag not in _FOREIGN_TAGS)


def check_one_frame(path: Path, frames: int) -> None:
    """Raise `ImageError` for a file of several frames."""
    if frames > 1:
        raise ImageError(
            f"image '{path}' | has {frames} frames, of which all but one would be dropped | "
            "split it into files of one frame each"
        )
