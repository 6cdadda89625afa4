"""Check whether the last frame of a video is complete if the container does not show it.

A decoder shows as much as it can of a frame that was cut off. Two changes of decoding expose this.
Neither changes a complete frame:

- libav conceals blocks that it could not decode (H.264, MPEG-1, MPEG-2). Without concealment the
  picture differs.
- Bytes after the last one are read as part of the frame (H.264, HEVC). With other bytes there the
  picture differs.

Other codecs cannot be checked: libav does not decode some intact MPEG-4 frames deterministically.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from maxim_deploy._optional import require
from maxim_deploy.imaging.video.coding import coding_of, rgb_from_frame

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame

logger = logging.getLogger(__name__)

_CODECS = ("h264", "hevc", "mpeg1video", "mpeg2video")

_MOST_PACKETS, _MOST_BYTES = 1000, 64 * 1024**2
"""Most packets and bytes between two keyframes. Memory holds up to twice as much."""

_BEHIND: list[bytes] = [
    np.random.default_rng(seed).integers(1, 256, 64, np.uint8).tobytes() for seed in (0, 1)
]
"""No zeros, so they contain no start code."""


class LastFrame:
    """The end of a stream: its packets from the last but one keyframe on.

    One keyframe is not enough: frames right after it may refer to earlier ones.

    Args:
        context: codec context that decodes the stream.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self._context = context
        self._groups: deque[list[Packet[Any]]] = deque([[]], maxlen=2)

    def add(self, packet: Packet[Any]) -> None:
        """Add the next packet of the stream. It has data."""
        if packet.is_keyframe:
            self._groups.append([])
        # A group that is too long does not grow further: its result is already "unknown", and
        # memory stays bounded.
        if not _is_too_long(self._groups[-1]):
            self._groups[-1].append(packet)

    def is_cut(self) -> bool | None:
        """Whether the frame of the last packet is incomplete; None if unknown.

        It decodes the kept packets four times, and once more after a finding. In tests it found all
        cuts inside a frame of H.264 and HEVC between two packets of an MPEG-TS, except those that
        lost whole slices of HEVC.
        """
        if any(map(_is_too_long, self._groups)) or self._context.name not in _CODECS:
            return None
        packets = [bytes(packet) for group in self._groups for packet in group]
        lacks = self._lacks_end(packets)
        # If the previous frame, which is complete, shows the same, the cause is the stream or the
        # decoder.
        return None if lacks and self._lacks_end(packets[:-1]) else lacks

    def _lacks_end(self, packets: Sequence[bytes]) -> bool | None:
        concealed = self._picture(packets, b"", {})
        if concealed is None:
            return None
        bare = self._picture(packets, b"", {"ec": "0"})
        first, second = (self._picture(packets, more, {}) for more in _BEHIND)
        return concealed != bare or first != second

    def _picture(
        self, packets: Sequence[bytes], behind: bytes, options: dict[str, str]
    ) -> bytes | None:
        """A hash of the last packet's frame with bytes appended; None without a frame."""
        av = require("av", "video")
        context = av.CodecContext.create(self._context.name, "r")
        context.extradata, context.options = self._context.extradata, options
        # Several threads do not always give the same picture of an incomplete frame
        context.thread_count = 1
        last = [data + behind for data in packets[-1:]]
        for frame in _frames(context, _numbered([*packets[:-1], *last])):
            if frame.pts == len(packets) - 1:
                return hashlib.sha256(rgb_from_frame(frame, coding_of(frame)).tobytes()).digest()
        return None


def _is_too_long(group: Sequence[Packet[Any]]) -> bool:
    size = sum(packet.size for packet in group)
    return len(group) > _MOST_PACKETS or size > _MOST_BYTES


def _numbered(packets: Sequence[bytes]) -> Iterator[Packet[Any]]:
    """Packets with their numbers as times, one at a time in memory."""
    av = require("av", "video")
    # The number returns as the frame's time, because decoders reorder frames.
    for number, data in enumerate(packets):
        packet = av.Packet(data)
        packet.pts = number
        yield packet


def _frames(context: Any, packets: Iterable[Packet[Any]]) -> Iterator[VideoFrame]:
    """All frames that can be decoded. Other damage was counted when the file was read."""
    for packet in chain(packets, [None]):  # None flushes the decoder
        try:
            yield from context.decode(packet)
        except MemoryError:
            raise
        except Exception as error:  # PyAV raises more than libav's errors
            logger.debug("not decoded again: %s", error)
