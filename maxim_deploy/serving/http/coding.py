"""Bytes to a picture and back, in threads of their own; nothing touches the disk."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field, replace

from maxim_deploy.errors import ImageError, MissingDependencyError
from maxim_deploy.imaging.files import (
    encoded_picture,
    picture_from,
    reading_errors,
    why_not_held,
)
from maxim_deploy.imaging.formats.contents import THUMBNAIL
from maxim_deploy.imaging.formats.reading import contents_of
from maxim_deploy.imaging.formats.writing import left_out
from maxim_deploy.imaging.kinds import read_format
from maxim_deploy.imaging.limits import check_pixels
from maxim_deploy.imaging.picture import Picture, Pixels
from maxim_deploy.imaging.transparency import filled, put_back_hidden
from maxim_deploy.serving.http.refusals import Refusal, refused_with

_logger = logging.getLogger(__name__)


@dataclass
class Order:
    """A picture on its way through the network.

    Attributes:
        picture: as it was sent.
        image_format: of the answer, such as "PNG".
        pixels: for the network, uint8 or uint16 [H, W, 3]: hidden ones are filled.
        warnings: what the answer does not keep, and damage that did not matter, in words.
    """

    picture: Picture
    image_format: str
    pixels: Pixels
    warnings: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.picture.rgb.shape[:2]
        return height, width


def order_from(content: bytes, image_format: str, most_pixels: int) -> Order:
    """Decode the body of a request.

    Args:
        content: of a file of any format that is read.
        image_format: of the answer.
        most_pixels: refuse pictures of more, before memory for them is taken.

    Raises:
        Refusal: 415 for another format, 413 for too many pixels, 422 if the answer's format cannot
            hold the picture, 400 for everything else.
    """
    file = io.BytesIO(content)
    with refused_with(415):
        kind = read_format(file)
    with refused_with(400), reading_errors():
        found = contents_of(kind, file)
    if (pixels := found.height * found.width) > most_pixels:
        raise Refusal(
            413,
            f"picture | {found.height}x{found.width}, {pixels:,} pixels | this service takes up to "
            f"{most_pixels:,} | send a smaller picture",
        )
    warnings: list[str] = []
    with refused_with(413):
        check_pixels(found, None)
    with refused_with(400), reading_errors():
        picture = picture_from(found, warnings.append, lambda _: None)
    if why := why_not_held(image_format, picture):
        raise Refusal(422, f"picture | {why}")
    lost = [*picture.left_out, *left_out(image_format, picture)]
    warnings += [f"left out: {thing}" for thing in lost if thing != THUMBNAIL]
    return Order(picture, image_format, filled(picture.rgb, picture.alpha), warnings)


def content_from(order: Order, restored: Pixels) -> bytes:
    """Encode the restored pixels with all that belongs to the picture.

    Args:
        order: the picture as it was sent.
        restored: [H, W, 3] from the network; written to where pixels are hidden.

    Raises:
        Refusal: 422 if it cannot be encoded.
    """
    picture = order.picture
    put_back_hidden(restored, picture.rgb, picture.alpha)
    try:
        return b"".join(encoded_picture(order.image_format, replace(picture, rgb=restored)))
    except (ImageError, MissingDependencyError) as error:
        _logger.warning("a picture cannot be encoded: %s", error)
        raise Refusal(422, f"picture | {error}") from error
