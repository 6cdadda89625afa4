"""Tiny videos that carry more than pictures and sound, made with PyAV and a few bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from clips import clip
from PIL import Image

RATE = Fraction(1, 25)

USER_DATA, FILM_GRAIN, AMBIENT = 5, 19, 148
"""Types of SEI messages, of H.264."""

Change = Callable[[Any, Any], object]


def packets_of(codec: str, options: dict[str, str] | None = None, **context: Any) -> list[Any]:
    """Four encoded frames of 64x64, each with the data that its decoder needs."""
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 64, "yuv420p"
    encoder.time_base, encoder.framerate = RATE, 1 / RATE
    encoder.options, encoder.thread_count = options or {}, 1
    for name, value in {"max_b_frames": 0, **context}.items():
        setattr(encoder, name, value)
    made = []
    for k in range(4):
        level = np.full((64, 64, 3), 60 * k, np.uint8)
        frame = av.VideoFrame.from_ndarray(level, format="rgb24")
        frame = frame.reformat(format=encoder.pix_fmt, threads=1)
        frame.pts, frame.time_base = k, RATE
        made += encoder.encode(frame)
    return made + encoder.encode(None)


def elementary(path: str, message: bytes = b"", options: dict[str, str] | None = None) -> Path:
    """H.264, or HEVC by its name, without a container; with an SEI message for each frame."""
    is_hevc = path.endswith(".hevc")
    packets = packets_of("libx265" if is_hevc else "libx264", options)
    Path(path).write_bytes(b"".join(message + bytes(packet) for packet in packets))
    return Path(path)


def with_window(path: str, width: int, height: int) -> Path:
    """MPEG-2 that says which part of its frames a narrower screen shows."""
    content = b"".join(map(bytes, packets_of("mpeg2video", {"seq_disp_ext": "always"})))
    # The sequence display extension, of kind 2 with three bytes of colours; then 14 bits, 1, 14.
    at = content.index(b"\0\0\1\xb5\x2b") + 8
    size = (width << 18 | 1 << 17 | height << 3).to_bytes(4)
    Path(path).write_bytes(content[:at] + size + content[at + 4 :])
    return Path(path)


def sei(kind: int, payload: bytes, head: bytes = b"\x06") -> bytes:
    """An SEI message of H.264, or with another head of HEVC, as a unit of the stream."""
    body, zeros = bytearray(), 0
    for byte in [kind, len(payload), *payload, 0x80]:
        if zeros == 2 and byte <= 3:  # three bytes that would look like a start code
            body.append(3)
            zeros = 0
        body.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + head + bytes(body)


def registered(code: bytes, payload: bytes, head: bytes = b"\x06") -> bytes:
    """User data of a registered provider (ITU-T T.35), of the United States."""
    return sei(4, b"\xb5" + code + payload, head)


CAPTION = bytes((0xFC, 0x94, 0x20))
"""One pair of bytes of CEA-608."""

CAPTIONS = registered(b"\0\x31", b"GA94\x03\xc1\xff" + CAPTION + b"\xff")
ASPECT = registered(b"\0\x31", b"DTG1\x41\xf8")
HEVC_SEI = b"\x4e\x01"
HDR10_PLUS = registered(b"\0\x3c", b"\0\1\4\1\x40" + bytes(24), HEVC_SEI)
DOLBY_VISION = b"\0\0\0\1\x7c\x01\x19" + bytes(range(1, 40))


def remuxed(source: str | Path, path: str, change: Change) -> Path:
    """A copy of a video; `change(output, streams)` comes before its header.

    What it returns is called with the output behind the header.
    """
    with av.open(str(source)) as before, av.open(path, "w") as output:
        streams = [
            output.add_stream_from_template(stream, opaque=True) for stream in before.streams
        ]
        for stream, old in zip(streams, before.streams, strict=True):
            stream.disposition = old.disposition
            stream.metadata.update(old.metadata)
        later = change(output, streams)
        output.start_encoding()
        if callable(later):
            later(output)
        for packet in before.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return Path(path)


def with_packets(path: str, codec: str, *contents: bytes, language: str = "eng") -> Path:
    """A video with a stream of any codec, of packets of these contents."""

    def add(output: Any, streams: Any) -> Callable[[Any], None]:
        stream = output.add_mux_stream(codec)
        stream.time_base = Fraction(1, 1000)
        stream.metadata["language"] = language

        def write(output: Any) -> None:
            for k, content in enumerate(contents):
                packet = av.Packet(content)
                packet.pts = packet.dts = 40 * k
                packet.time_base, packet.stream = Fraction(1, 1000), stream
                output.mux(packet)

        return write

    return remuxed(clip("plain.mp4", range(0, 4 * 3600, 3600)), path, add)


def with_ac3(path: str, source: str | Path) -> Path:
    """With silence in a codec that MP4 cannot end without a packet of."""

    def add(output: Any, streams: Any) -> Callable[[Any], None]:
        sound = output.add_stream("ac3", rate=48000)

        def write(output: Any) -> None:
            silence = np.zeros((2, 1536), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, "fltp", "stereo")
            frame.sample_rate = 48000
            output.mux([*sound.encode(frame), *sound.encode(None)])

        return write

    return remuxed(source, path, add)


def with_timecode(path: str, timecode: str) -> Path:
    """With a track that says the timecode of the first frame."""
    with av.open(path, "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.metadata["timecode"] = timecode
        for k in range(4):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = k, RATE
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return Path(path)


def with_foreign_sound(source: Path) -> Path:
    """Of an MP4, with its AAC under the names of a codec that nobody knows."""
    content = source.read_bytes().replace(b"mp4a", b"zzzz")
    at = content.index(b"\x40", content.index(b"esds") + 12)  # the kind of object: AAC
    source.write_bytes(content[:at] + b"\xfe" + content[at + 1 :])
    return source


def with_cover(path: str, source: str | Path) -> Path:
    """With a picture that players show beside the sound."""

    def add(output: Any, streams: Any) -> Callable[[Any], None]:
        (picture, *_) = packets_of("mjpeg", pix_fmt="yuvj420p")
        cover = output.add_mux_stream("mjpeg", width=64, height=64)
        cover.time_base, cover.disposition = RATE, av.stream.Disposition.attached_pic

        def write(output: Any) -> None:
            picture.stream = cover
            output.mux(picture)

        return write

    return remuxed(source, path, add)


def of_pictures(path: str, codec: str, **parameters: Any) -> Path:
    """A MOV of pictures, "png" or "mjpeg", that Pillow saves with these parameters."""
    with av.open(path, "w") as output:
        stream = output.add_mux_stream(codec, rate=25, width=64, height=64)
        stream.time_base = RATE
        for k in range(3):
            content = io.BytesIO()
            picture = Image.new("RGB", (64, 64), (50 * k, 90, 200))
            picture.save(content, {"mjpeg": "jpeg"}.get(codec, codec), **parameters)
            packet = av.Packet(content.getvalue())
            packet.pts = packet.dts = k
            packet.time_base, packet.stream, packet.is_keyframe = RATE, stream, True
            output.mux(packet)
    return Path(path)


def with_box(source: Path, *inside: bytes, box: bytes) -> Path:
    """Put a box into an MP4, behind what the innermost of these boxes holds."""
    content, at, end = bytearray(source.read_bytes()), 0, source.stat().st_size
    for name in inside:
        start = content.index(name, at, end) - 4
        end = start + int.from_bytes(content[start : start + 4])
        content[start : start + 4] = (end - start + len(box)).to_bytes(4)
        at = start + 8
    source.write_bytes(content[:end] + box + content[end:])
    return source


def box(name: bytes, *contents: bytes) -> bytes:
    """A box of an MP4."""
    body = b"".join(contents)
    return (8 + len(body)).to_bytes(4) + name + body


EQUIRECTANGULAR = box(
    b"sv3d",
    box(b"svhd", bytes(5)),
    box(b"proj", box(b"prhd", bytes(16)), box(b"equi", bytes(20))),
)
"""As a camera of 360 degrees says it."""
