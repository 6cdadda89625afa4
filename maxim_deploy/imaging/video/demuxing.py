"""Packets of a video file: decode one stream, pass on the others, count damage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxim_deploy._optional import require
from maxim_deploy.imaging._reasons import reason
from maxim_deploy.imaging.video.endings import may_lack_end, missing_end
from maxim_deploy.imaging.video.last_frame import LastFrame

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

logger = logging.getLogger(__name__)

_LIVE = frozenset({"mpegts", "mpeg"})
"""Broadcast formats, whose clocks start anywhere. Times are counted from the first frame."""

_JUMP_SECONDS = 1
"""Seconds by which a stream's time may go back. More means that another broadcast was appended."""

_EXACT_DURATION = frozenset({"mov", "matroska", "avi", "flv"})
"""Formats whose headers state the duration. libav guesses it for others."""

_FROM_ZERO = frozenset({"matroska", "flv"})
"""Formats that count the duration from zero, whenever the first frame starts."""

_MISSING_SECONDS = 0.25
"""Seconds. A file that ends earlier than promised by this and its longest frame is cut off."""


class Demuxer:
    """The contents of a file, from beginning to end.

    Attributes:
        rest: packets of other streams since the last frame.
        longest_frame: longest duration of a frame so far, in seconds. The reader of frames updates
            it.

    Args:
        container: the open container.
        stream: the stream to decode.
        path: of the file.
        leave_out: called with contents that are not passed on, in words.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        path: Path,
        leave_out: Callable[[str], None],
    ) -> None:
        self._container, self._stream, self._path = container, stream, path
        self._leave_out = leave_out
        self._formats = frozenset(container.format.name.split(","))
        self._last_frame = LastFrame(stream.codec_context) if "mpegts" in self._formats else None
        self.rest: list[Packet[Any]] = []
        self.longest_frame = Fraction(0)
        self._end = Fraction(0)
        self._times: dict[int, Fraction] = {}
        self._latest: dict[int, int] = {}
        self._is_sound_left_out = False
        self._bad_packets = 0
        self._stopped: str | None = None

    @property
    def damage(self) -> str | None:
        """Damage found so far, in words; None without damage."""
        bad = f"{self._bad_packets} of its packets cannot be decoded" if self._bad_packets else None
        return " and ".join(filter(None, (bad, self._stopped))) or None

    @property
    def start(self) -> Fraction:
        """Seconds that are subtracted from all times."""
        is_live = not _LIVE.isdisjoint(self._formats)
        return Fraction(self._container.start_time or 0, 1_000_000) if is_live else Fraction(0)

    def frames(self) -> Generator[tuple[VideoFrame, list[Packet[Any]]]]:
        """Frames in order, each with the packets that were read before it."""
        for packet in self._packets():
            is_damaged = packet.is_corrupt
            if packet.stream.index == self._stream.index:
                if self._last_frame and packet.size:
                    self._last_frame.add(packet)
                try:
                    frames: list[Any] = packet.decode()
                except MemoryError:
                    raise  # a closed generator is not damage of the file
                except Exception:
                    # A damaged packet loses its own frames. Decoding continues after it.
                    frames, is_damaged = [], True
                for frame in frames:
                    is_damaged |= frame.is_corrupt
                    # Passed on with the frame that follows them: memory holds only a moment of
                    # sound, and the result is interleaved like the source.
                    others, self.rest = self.rest, []
                    yield frame, others
            elif packet.dts is not None and self._goes_on(packet):
                self._shift(packet)
                self.rest.append(packet)
            self._bad_packets += is_damaged
        self._check_end()

    def _packets(self) -> Iterator[Packet[Any]]:
        try:
            for packet in self._container.demux():
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self._end = max(self._end, end)
                if self._jumps_back(packet):
                    seconds = float(self._end - self.start)
                    self._stopped = f"its times restart after {seconds:.2f} s"
                    break
                yield packet
            else:
                return
        except MemoryError:
            raise
        except IndexError:  # raised by PyAV after the last packet: a stream began late
            if _LIVE.isdisjoint(self._formats):
                self._stopped = "it has a stream that its header does not name"
            else:
                self._leave_out("a stream that begins later")
            return
        except Exception as error:  # PyAV raises more than libav's errors
            self._stopped = f"it cannot be read any further: {reason(error)}"
        # An empty packet flushes the decoder, which may hold frames that are shown after later
        # ones. PyAV sends one itself if it reaches the end without an error.
        end_of_stream = require("av", "video").Packet()
        end_of_stream.stream = self._stream
        yield end_of_stream

    def _jumps_back(self, packet: Packet[Any]) -> bool:
        is_shown = packet.stream.index == self._stream.index or packet.stream.type == "audio"
        if packet.dts is None or not is_shown or _LIVE.isdisjoint(self._formats):
            return False
        time = packet.dts * packet.time_base
        before = self._times.get(packet.stream.index, time)
        self._times[packet.stream.index] = time
        return before - time > _JUMP_SECONDS

    def _goes_on(self, packet: Packet[Any]) -> bool:
        """Whether a packet is in order. No container accepts sound that precedes earlier sound."""
        if packet.stream.type != "audio" or packet.dts is None:
            return True
        latest = self._latest.get(packet.stream.index, packet.dts)
        self._latest[packet.stream.index] = max(latest, packet.dts)
        if not 0 < (latest - packet.dts) * packet.time_base <= _JUMP_SECONDS:
            return True
        if not self._is_sound_left_out:
            self._leave_out("sound whose time has passed")
        self._is_sound_left_out = True
        return False

    def _shift(self, packet: Packet[Any]) -> None:
        start = round(self.start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - start
        packet.dts = None if packet.dts is None else packet.dts - start

    def _check_end(self) -> None:
        """Some formats simply end.

        Their promised duration and their layout show whether it was too early.
        """
        self._stopped = (
            self._stopped or self._missing_time() or missing_end(self._path, self._formats)
        )
        if self._last_frame and not self.damage and may_lack_end(self._path, self._stream.id):
            is_cut = self._last_frame.is_cut()
            if is_cut is None:
                logger.warning(
                    "video '%s': cannot check whether its last frame is complete", self._path
                )
            elif is_cut:
                self._stopped = "its last frame is cut off"

    def _missing_time(self) -> str | None:
        promised = self._container.duration
        if promised is None or _EXACT_DURATION.isdisjoint(self._formats):
            return None
        from_zero = not _FROM_ZERO.isdisjoint(self._formats)
        start = 0 if from_zero else self._container.start_time or 0
        whole = Fraction(promised + start, 1_000_000)
        if whole - self._end <= _MISSING_SECONDS + self.longest_frame:
            return None
        return f"it ends after {float(self._end):.2f} of {float(whole):.2f} s"
