"""Whether the last frame of a video is whole, where the file just ends and nothing says so.

A decoder shows what it can of a frame that was cut off, and two things give that away. Neither
changes a whole frame:

- libav conceals the blocks that it could not decode (H.264, MPEG-1, MPEG-2); without that the
  picture is another one.
- Bytes behind the last are read as if they were of the frame (H.264, HEVC); with others there it
  is another one.

Of other codecs nobody can tell: libav does not decode some intact MPEG-4 frames deterministically.
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
"""From one keyframe to the next; twice so much of a file is kept in memory."""

_BEHIND: list[bytes] = [
    np.random.default_rng(seed).integers(1, 256, 64, np.uint8).tobytes() for seed in (0, 1)
]
"""Without zeros: no start code is among them."""


class LastFrame:
    """The end of a stream, as it is read; packets from the last keyframe but one on.

    One would not do: what comes right behind a keyframe may refer to frames before it.

    Args:
        context: that decodes the stream.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self._context = context
        self._groups: deque[list[Packet[Any]]] = deque([[]], maxlen=2)

    def add(self, packet: Packet[Any]) -> None:
        """The next packet of the stream, which has data."""
        if packet.is_keyframe:
            self._groups.append([])
        # A group that has become too long is not grown further: it already says "nobody can tell",
        # and memory stays bounded.
        if not _is_too_long(self._groups[-1]):
            self._groups[-1].append(packet)

    def is_cut(self) -> bool | None:
        """Whether the frame of the last packet lacks something; None if nobody can tell.

        Decodes what is kept four times, and again if something is found. Seen: all cuts inside a
        frame of H.264 and HEVC between two packets of an MPEG-TS, but for those that lost a slice
        and no part of one in HEVC.
        """
        if any(map(_is_too_long, self._groups)) or self._context.name not in _CODECS:
            return None
        packets = [bytes(packet) for group in self._groups for packet in group]
        lacks = self._lacks_end(packets)
        # What shows of the frame before too, which is whole, is of the stream or of its decoder.
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
        """A hash of the last packet's frame, with bytes appended to it; None if there is none."""
        av = require("av", "video")
        context = av.CodecContext.create(self._context.name, "r")
        context.extradata, context.options = self._context.extradata, options
        context.thread_count = 1  # several do not always come to the same picture of what is cut
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
    # The number comes back as the frame's time: decoders give frames in another order than packets.
    for number, data in enumerate(packets):
        packet = av.Packet(data)
        packet.pts = number
        yield packet


def _frames(context: Any, packets: Iterable[Packet[Any]]) -> Iterator[VideoFrame]:
    """All that can be decoded; what cannot was counted as damage when the file was read."""
    for packet in chain(packets, [None]):  # None: what the decoder still has
        try:
            yield from context.decode(packet)
        except MemoryError:
            raise
        except Exception as error:  # PyAV raises more than libav's errors
            logger.debug("not decoded again: %s", error)
