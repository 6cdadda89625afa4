"""What a frame carries beside its picture: closed captions, HDR metadata, timecode and so on.

PyAV reads these data and cannot attach them to a new frame. A frame that libswscale scales keeps
them, though, and so it keeps the location of its chroma, which PyAV does not show. So both travel
in a tiny copy of a frame, its carrier. Scaled up it is a canvas for the restored pixels.
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
"""What users call the data, by libav's name. Absent are those that do not outlive decoding."""

_IN_FRAMES = frozenset({"A53_CC", "STEREO3D"})
"""What libx264 takes from the frames that it encodes."""

_TIMECODES = frozenset({"GOP_TIMECODE", "S12M_TIMECODE"})
_GOP_SECONDS = 0b1111_1111_1110_1111_1100_0000
"""Bits of a timecode of MPEG-2 that are hours, minutes and seconds; a marker is always set."""

_ENCODER_STAMPS = tuple(
    bytes.fromhex(uuid)
    for uuid in ("dc45e9bde6d948b7962cd820d923eeef", "2ca2de09b51747dbbb55a4fe7fc2fc4e")
)
"""x264 and x265 name themselves and their settings in user data."""

_CARRIER_SIDE = 16
"""Pixels: few, and enough for libswscale to scale from and to any other size."""

_RATIONALS = struct.Struct("=20i2i")
"""`AVMasteringDisplayMetadata`: red, green, blue, white (x, y), least and most luminance, all as
numerator and denominator; then whether there are primaries, and luminance."""


def side_data_of(frame: VideoFrame, codec: str) -> dict[str, list[bytes]]:
    """All that a frame carries, by libav's name; "OTHER" if it is not to be read.

    Args:
        frame: as decoded.
        codec: libav's name of its decoder.
    """
    # PyAV frees the name of a PNG's ICC profile, and so does libav: the process would crash.
    if codec in ("png", "apng"):
        return {"OTHER": [b""]}
    found: dict[str, list[bytes]] = {}
    try:
        side_data: Any = frame.side_data  # a mapping to PyAV's types, and over its values
        for data in side_data:
            found.setdefault(data.type.name, []).append(bytes(data))
    except ValueError:  # a type that is newer than PyAV's list
        return {"OTHER": [b""]}
    return found


def data_of(frame: VideoFrame, codec: str, is_first: bool) -> dict[str, bytes]:
    """What a frame carries and means, by libav's name.

    Args:
        frame: as decoded.
        codec: libav's name of its decoder.
        is_first: only the timecode of the first frame counts; the others go on from there.
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
    """Whether the data say nothing, as those that each MPEG-2 file has."""
    match name:
        case "SEI_UNREGISTERED":
            return data.startswith(_ENCODER_STAMPS)
        case "GOP_TIMECODE":
            return not int.from_bytes(data, sys.byteorder) & _GOP_SECONDS
        case "S12M_TIMECODE":
            return not any(data[4:])  # behind their count
        case "PANSCAN":  # number, width and height in 16ths of a pixel, positions
            _, width, height = struct.unpack_from("=3i", data)
            return not (0 < width < 16 * frame.width or 0 < height < 16 * frame.height)
    return False


def _x264_parameters(data: Mapping[str, bytes]) -> dict[str, str]:
    """The parameter of x264 that keeps HDR metadata, by the name of the data; see `x264 --help`.

    x264 refuses numbers that have no place in the 16 or 32 bits of H.264: such are not kept.
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
    """In steps of 0.00002 of chromaticity, and of 0.0001 candela per square metre."""
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
    """A tiny copy that keeps the frame's data, and the location of its chroma."""
    # One pixel in many is read; and no canvas has this format, so that scaling makes a new frame.
    return frame.reformat(
        width=_CARRIER_SIDE, height=_CARRIER_SIDE, format="bgr24", interpolation="POINT", threads=1
    )


class Canvases:
    """Frames to fill with restored pixels, which carry what the frames of the source do.

    Attributes:
        parameters: of x264, that keep the HDR metadata of the whole.

    Args:
        first: data of the first frame, by libav's name.
        has_place: whether the codec of the result has a place for any data.
    """

    def __init__(self, first: Mapping[str, bytes], has_place: bool) -> None:
        of_x264 = _x264_parameters(first) if has_place else {}
        self.parameters = ":".join(of_x264.values())
        self._kept = frozenset({*_IN_FRAMES, *of_x264}) if has_place else frozenset()
        self._lost: set[str] = set()
        self._plain: VideoFrame | None = None

    @property
    def lost(self) -> list[str]:
        """What the result has no place for, in the words of users."""
        return sorted({_WORDS[name] for name in self._lost})

    def canvas(self, data: frozenset[str], carrier: VideoFrame, rgb: Pixels) -> VideoFrame:
        """A frame of the size and type of `rgb` [H, W, 3]; the next call may return it again.

        Args:
            data: names of what the carrier has.
            carrier: of the frame to write.
            rgb: uint8 or uint16.
        """
        self._lost |= data - self._kept
        # Data that are not read may be among those that libx264 takes: no other frame has them.
        if not data.isdisjoint({*_IN_FRAMES, "OTHER"}):
            return _canvas_of(carrier, rgb)
        # One serves for all frames that carry nothing, as nearly all do: it takes time to make.
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
    canvas.pict_type = 0  # the encoder decides anew which frames are keyframes
    return canvas
