"""The coding of a video's pixels, and conversion to RGB and back by the same matrix and range.

Frames of 8 bits become RGB of 8 bits, deeper frames RGB of 16 bits. If a file does not name its
matrix, BT.601 is assumed below 720 lines and BT.709 from there on, as players do. The result is
then untagged too, so a player shows both alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maxim_deploy._optional import require
from maxim_deploy.errors import VideoError
from maxim_deploy.imaging.picture import Pixels

if TYPE_CHECKING:
    from av import VideoFormat, VideoFrame

_UNSPECIFIED = 2
_BT709, _BT601 = 1, 5
_LIMITED, _FULL = 1, 2
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9}
"""libswscale's names of matrices by their tag in ITU-T H.273: BT.709, FCC, BT.601 (twice), SMPTE
240M, BT.2020 with non-constant luminance."""

_HD_LINES = 720

_THREADS = 1
"""Threads of libswscale. With several, version 9.5 sometimes gets a row of chroma wrong (seen with
its default flags, not with ours)."""


@dataclass(frozen=True)
class Coding:
    """The colour coding of a video. Tags are numbers of ITU-T H.273, as in libav.

    Attributes:
        bits: bits per channel as stored.
        layout: chroma subsampling, "420", "422" or "444", or "gray".
        tagged_matrix: matrix that the file names and the result will name.
        tagged_range: range that the file names; 0 without one.
        primaries: primaries that the file names; 0 without any.
        transfer: transfer function that the file names; 0 without one.
        matrix: matrix for conversion, by libswscale's name.
        range: range for conversion: 1 limited, 2 full.
    """

    bits: int
    layout: str
    tagged_matrix: int
    tagged_range: int
    primaries: int
    transfer: int
    matrix: int
    range: int

    def pixel_format(self, bits: int, height: int, width: int) -> str:
        """The layout for encoding with `bits` per channel. Odd sides are not subsampled."""
        if self.layout == "gray":
            return "gray" if bits == 8 else f"gray{bits}le"
        # libx264 refuses odd sides with subsampled chroma, and cropping would lose pixels.
        layout = "444" if width % 2 or (self.layout == "420" and height % 2) else self.layout
        return f"yuv{layout}p" if bits == 8 else f"yuv{layout}p{bits}le"


def coding_of(frame: VideoFrame) -> Coding:
    """Read the coding from a frame.

    Raises:
        VideoError: the colours cannot be kept.
    """
    layout, bits = _layout_and_bits(frame.format)
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    tagged = (_BT709 if is_rgb else frame.colorspace, _LIMITED if is_rgb else frame.color_range)
    guess = _BT709 if frame.height >= _HD_LINES else _BT601
    matrix = guess if tagged[0] == _UNSPECIFIED else _MATRICES.get(tagged[0])
    if matrix is None:
        raise VideoError(
            f"has the colour matrix {tagged[0]} of H.273 | those that are read are "
            f"{', '.join(map(str, _MATRICES))} | convert it"
        )
    # Grey has full range unless tagged otherwise. libswscale passes its levels on unchanged.
    is_full_grey = layout == "gray" and tagged[1] == 0
    # The deprecated formats yuvj420p and so on imply full range by their name.
    is_full = tagged[1] == _FULL or frame.format.name.startswith("yuvj") or is_full_grey
    return Coding(
        bits=bits,
        layout=layout,
        tagged_matrix=tagged[0],
        tagged_range=_FULL if is_full else tagged[1],
        primaries=frame.color_primaries,
        transfer=frame.color_trc,
        matrix=matrix,
        range=_FULL if is_full else _LIMITED,
    )


def _layout_and_bits(stored: VideoFormat) -> tuple[str, int]:
    """Bits per channel and layout of a pixel format."""
    bits = max(component.bits for component in stored.components)
    is_foreign = bits > 16 or stored.name.startswith(("xyz", "bayer"))
    if is_foreign or any(component.is_alpha for component in stored.components):
        what = "is" if is_foreign else "has transparency:"
        raise VideoError(
            f"{what} {stored.name} | expected RGB, YCbCr or grey of up to 16 bits, opaque | "
            "convert it"
        )
    # Fewer bits, as in rgb565 or black and white, are read as 8: no encoder has fewer.
    if stored.is_rgb or stored.has_palette:
        return "444", max(bits, 8)
    if len(stored.components) < 3:
        return "gray", max(bits, 8)
    chroma = stored.components[1]
    if chroma.width == stored.width:
        return "444", bits
    return "422" if chroma.height == stored.height else "420", bits


def rgb_from_frame(frame: VideoFrame, coding: Coding) -> Pixels:
    """The frame as stored: uint8 or uint16 [H, W, 3]."""
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    # RGB has full range by definition. `coding.range` is that of the YCbCr to write.
    stored_range = _FULL if is_rgb else coding.range
    pixel_format = "rgb24" if coding.bits == 8 else "rgb48le"
    rgb: Pixels = _converted(frame, coding.matrix, pixel_format, stored_range, _FULL).to_ndarray()
    return rgb


def frame_from_rgb(
    rgb: Pixels, coding: Coding, pixel_format: str, canvas: VideoFrame
) -> VideoFrame:
    """The inverse of `rgb_from_frame`, in the encoder's pixel format.

    Args:
        rgb: uint8 or uint16 [H, W, 3].
        coding: coding of the video.
        pixel_format: pixel format of the encoder.
        canvas: RGB frame of the same size and type, which is overwritten. The result has its data
            and its location of chroma.
    """
    plane: Any = canvas.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)  # longer than the picture
    pixels = np.ascontiguousarray(rgb).view(np.uint8).reshape(plane.height, -1)
    rows[:, : pixels.shape[1]] = pixels
    return _converted(canvas, coding.matrix, pixel_format, _FULL, coding.range)


def _converted(
    frame: VideoFrame, matrix: int, pixel_format: str, range_from: int, range_to: int
) -> VideoFrame:
    flags = require("av.video.reformatter", "video").Interpolation
    # libswscale's default flags lose a level on the way to RGB and back. These flags lose none.
    exact = flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
    return frame.reformat(
        format=pixel_format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=range_from,
        dst_color_range=range_to,
        interpolation=int(exact),
        threads=_THREADS,
    )
