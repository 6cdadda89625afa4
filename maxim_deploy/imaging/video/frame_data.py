"""Side data of a frame: closed captions, HDR metadata, timecode and so on.

PyAV reads side data but cannot attach them to a new frame. However, a frame scaled by libswscale
keeps them, and also the location of its chroma, which PyAV does not expose. So a tiny copy of each
frame, its carrier, transports both. Scaled up, it is a canvas for the restored pixels.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

from maxim_deploy.imaging.picture import Pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av import VideoFrame

_WORDS = {
    "A53_CC": "closed captions",
    "STEREO3D": "stereo layout",
    "MASTERING_DISPLAY_METADATA": "mastering display",
    "CONTENT_LIGHT_LEVEL": "content light level",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient viewing environment",
    "SPHERICAL": "spherical projection",
    "ICC_PROFILE": "ICC profile",
    "AFD": "active format description",
    "PANSCAN": "pan and scan window",
    "SEI_UNREGISTERED": "user data",
    "GOP_TIMECODE": "timecode",
    "S12M_TIMECODE": "timecode",
    "OTHER": "data that PyAV does not read",
}
"""Names for users by libav's name. Data that do not survive decoding are absent."""

_IN_FRAMES = frozenset({"A53_CC", "STEREO3D"})
"""The side data that libx264 takes from frames."""

_TIMECODES = frozenset({"GOP_TIMECODE", "S12M_TIMECODE"})
_GOP_SECONDS = 0b1111_1111_1110_1111_1100_0000
"""Bits of hours, minutes and seconds in an MPEG-2 timecode. A marker bit is always set."""

_ENCODER_STAMPS = tuple(
    bytes.fromhex(uuid)
    for uuid in ("dc45e9bde6d948b7962cd820d923eeef", "2ca2de09b51747dbbb55a4fe7fc2fc4e")
)
"""x264 and x265 write their names and settings into user data."""

_CARRIER_SIDE = 16
"""Pixels of a side: few, but enough for libswscale to scale from and to any size."""

_RATIONALS = struct.Struct("=20i2i")
"""`AVMasteringDisplayMetadata`: red, green, blue, white (x, y), minimum and maximum luminance, all
as numerator and denominator; then flags for primaries and luminance."""


def side_data_of(frame: VideoFrame, codec: str) -> dict[str, list[bytes]]:
    """All side data of a frame, by libav's name; "OTHER" for unreadable data.

    Args:
        frame: as decoded.
        codec: libav's name of its decoder.
    """
    # PyAV and libav both free the name of a PNG's ICC profile: the process would crash.
    if codec in ("png", "apng"):
        return {"OTHER": [b""]}
    found: dict[str, list[bytes]] = {}
    try:
        side_data: Any = frame.side_data  # a mapping whose iteration yields values
        for data in side_data:
            found.setdefault(data.type.name, []).append(bytes(data))
    except ValueError:  # a type that PyAV does not know yet
        return {"OTHER": [b""]}
    return found


def data_of(frame: VideoFrame, codec: str, is_first: bool) -> dict[str, bytes]:
    """Meaningful side data of a frame, by libav's name.

    Args:
        frame: as decoded.
        codec: libav's name of its decoder.
        is_first: whether it is the first frame. Only its timecode counts; later ones continue from
            it.
    """
    return {
        name: data
        for name, values in side_data_of(frame, codec).items()
        for data in values
        if name in _WORDS
        and not _is_void(name, data, frame)
        and (is_first or name not in _TIMECODES)
    }


def _is_void(name: str, data: bytes, frame: VideoFrame) -> bool:
    """Whether the data are empty, as in every MPEG-2 file."""
    match name:
        case "SEI_UNREGISTERED":
            return data.startswith(_ENCODER_STAMPS)
        case "GOP_TIMECODE":
            return not int.from_bytes(data, sys.byteorder) & _GOP_SECONDS
        case "S12M_TIMECODE":
            return not any(data[4:])  # after their count
        case "PANSCAN":  # number, width and height in 16ths of a pixel, positions
            _, width, height = struct.unpack_from("=3i", data)
            return not (0 < width < 16 * frame.width or 0 < height < 16 * frame.height)
    return False


def _x264_parameters(data: Mapping[str, bytes]) -> dict[str, str]:
    """The x264 parameters that keep HDR metadata, by the name of the data; see `x264 --help`.

    Numbers that do not fit the 16 or 32 bits of H.264 are dropped, because x264 refuses them.
    """
    parameters = {}
    if light := data.get("CONTENT_LIGHT_LEVEL"):
        most, mean = struct.unpack_from("=2I", light)
        if max(most, mean) < 1 << 16:
            parameters["CONTENT_LIGHT_LEVEL"] = f"cll={most},{mean}"
    display = data.get("MASTERING_DISPLAY_METADATA", b"")
    if len(display) >= _RATIONALS.size and (written := _mastering_display(display)):
        parameters["MASTERING_DISPLAY_METADATA"] = written
    return parameters


def _mastering_display(display: bytes) -> str | None:
    """Mastering display in steps of 0.00002 of chromaticity and 0.0001 candela per square metre."""
    *numbers, has_primaries, has_luminance = _RATIONALS.unpack_from(display)
    above, below = numbers[::2], numbers[1::2]
    if not (has_primaries and has_luminance and all(below)):
        return None
    scales = [50_000] * 8 + [10_000] * 2
    *points, least, most = (round(s * a / b) for s, a, b in zip(scales, above, below, strict=True))
    if min(*points, least) < 0 or max(points) >= 1 << 16 or max(least, most) >= 1 << 32:
        return None
    red, green, blue, white = (f"({points[at]},{points[at + 1]})" for at in (0, 2, 4, 6))
    return f"mastering-display=G{green}B{blue}R{red}WP{white}L({most},{least})"


def carrier_of(frame: VideoFrame) -> VideoFrame:
    """A tiny copy that keeps the frame's side data and location of chroma."""
    # Few pixels are read. No canvas has this format, so scaling always makes a new frame.
    return frame.reformat(
        width=_CARRIER_SIDE, height=_CARRIER_SIDE, format="bgr24", interpolation="POINT", threads=1
    )


class Canvases:
    """Frames with the side data of the source, to be filled with restored pixels.

    Attributes:
        parameters: x264 parameters that keep HDR metadata of the whole video.

    Args:
        first: side data of the first frame, by libav's name.
        has_place: whether the result's codec can hold side data.
    """

    def __init__(self, first: Mapping[str, bytes], has_place: bool) -> None:
        of_x264 = _x264_parameters(first) if has_place else {}
        self.parameters = ":".join(of_x264.values())
        self._kept = frozenset({*_IN_FRAMES, *of_x264}) if has_place else frozenset()
        self._lost: set[str] = set()
        self._plain: VideoFrame | None = None

    @property
    def lost(self) -> list[str]:
        """Side data that the result cannot hold, in words for users."""
        return sorted({_WORDS[name] for name in self._lost})

    def canvas(self, data: frozenset[str], carrier: VideoFrame, rgb: Pixels) -> VideoFrame:
        """A frame of the size and type of `rgb` [H, W, 3]. The next call may return it again.

        Args:
            data: names of the carrier's side data.
            carrier: carrier of the frame to write.
            rgb: pixels, uint8 or uint16.
        """
        self._lost |= data - self._kept
        # Unreadable data may be some that libx264 takes, so this canvas serves one frame only.
        if not data.isdisjoint({*_IN_FRAMES, "OTHER"}):
            return _canvas_of(carrier, rgb)
        # Making a canvas takes time. One serves all frames without side data, which are most.
        self._plain = self._plain or _canvas_of(carrier, rgb)
        return self._plain


def _canvas_of(carrier: VideoFrame, rgb: Pixels) -> VideoFrame:
    height, width, _ = rgb.shape
    canvas = carrier.reformat(
        width=width,
        height=height,
        format="rgb24" if rgb.dtype.itemsize == 1 else "rgb48le",
        interpolation="FAST_BILINEAR",
        threads=1,
    )
    canvas.pict_type = 0  # the encoder chooses keyframes itself
    return canvas
