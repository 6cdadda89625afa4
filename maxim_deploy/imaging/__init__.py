"""Images as arrays: padding with its inverse, pixel types, image files and video files."""

from maxim_deploy.imaging.padding import Padding
from maxim_deploy.imaging.pixels import Rounding, check_image, check_rounding, from_unit, to_unit

__all__ = ["Padding", "Rounding", "check_image", "check_rounding", "from_unit", "to_unit"]
