"""Small videos for tests, made with PyAV: grey levels over time, sound, subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

TICKS = Fraction(1, 90000)
VARIABLE = (0, 3600, 5000, 9000, 20000, 20050, 40000, 90000)
"""Times of eight frames in ticks, as irregular as a phone's."""


def levels(count: int) -> list[int]:
    """A grey level for each frame."""
    return [40 + 160 * k // max(1, count - 1) for k in range(count)]


def clip(
    path: str | Path,
    pts: Sequence[int] = VARIABLE,
    *,
    size: tuple[int, int] = (48, 32),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    frames: Iterable[np.ndarray] | None = None,
    sound: bool | str = True,
    subtitles: bool = False,
    rotation: tuple[float, bool] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    time_base: Fraction = TICKS,
    **context: Any,
) -> Path:
    """Write a video of `size` (width, height), grey unless `frames` has RGB arrays.

    `sound` may name a codec. `context` are attributes of the codec context, such as `color_range`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as output:
        output.metadata["title"] = "A title"
        video = output.add_stream(codec, rate=25, options=options or {})
        video.width, video.height = size
        video.pix_fmt = pixel_format
        video.codec_context.time_base = time_base
        video.codec_context.flags |= av.codec.context.Flags.frame_duration
        # An encoder's bytes depend on its threads, and it counts processors unless it is told.
        video.codec_context.thread_count = 2
        video.metadata["language"] = "ita"
        for name, value in context.items():
            setattr(video.codec_context, name, value)
        if rotation:
            video.set_display_rotation(rotation[0], hflip=rotation[1])
        audio = _sound(output, "aac" if sound is True else sound) if sound else None
        texts = _subtitles(output, path) if subtitles else []
        if subtitles:
            output.set_chapters([_CHAPTER])
        output.start_encoding()
        output.mux(texts)
        for k, rgb in zip(pts, _pictures(frames, size, len(pts)), strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame = frame.reformat(
                format=pixel_format,
                src_color_range=2,
                dst_color_range=video.codec_context.color_range or 1,
                dst_colorspace=_swscale_matrix(video.codec_context.colorspace),
                threads=1,  # several make a wrong row now and then
            )
            frame.pts, frame.time_base, frame.duration = k, time_base, _gap(pts, k)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio:
            _sing(output, audio, float(max(pts) * time_base))
    return path


_CHAPTER = {
    "id": 1,
    "start": 0,
    "end": 500,
    "time_base": Fraction(1, 1000),
    "metadata": {"title": "One"},
}


def _pictures(
    frames: Iterable[np.ndarray] | None, size: tuple[int, int], count: int
) -> Iterable[np.ndarray]:
    if frames is not None:
        return frames
    return (np.full((size[1], size[0], 3), level, np.uint8) for level in levels(count))


def _gap(pts: Sequence[int], k: int) -> int:
    later = [other for other in pts if other > k]
    return later[0] - k if later else (pts[-1] - pts[-2] if len(pts) > 1 else 3600)


def _swscale_matrix(tag: int) -> int:
    return {2: 5, 6: 5}.get(tag, tag)


def _sound(output: Any, codec: str) -> Any:
    audio = output.add_stream(codec, rate=8000)
    audio.layout = "mono" if codec == "aac" else "stereo"
    audio.metadata["language"] = "deu"
    return audio


def _sing(output: Any, audio: Any, seconds: float) -> None:
    samples = np.sin(np.arange(int(8000 * seconds) + 1024)).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
    output.mux(audio.encode(frame))
    output.mux(audio.encode(None))


def _subtitles(output: Any, path: Path) -> list[Any]:
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,040 --> 00:00:00,140\nhello\n\n")
    with av.open(str(text)) as source:
        copy = output.add_stream_from_template(source.streams[0])
        copy.metadata["language"] = "fra"
        packets = [packet for packet in source.demux() if packet.dts is not None]
    text.unlink()
    for packet in packets:
        packet.stream = copy
    return packets


def shown(path: str | Path) -> list[tuple[int, int]]:
    """Of each frame the time in ticks of 1/90000 s, and the level of its middle."""
    seen = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            rgb = frame.to_ndarray(format="rgb24", threads=1)
            time = round(frame.pts * frame.time_base / TICKS)
            seen.append((time, int(rgb[frame.height // 2, frame.width // 2, 1])))
    return seen


def assert_inverted(path: str | Path, pts: Sequence[int] | None, of: int | None = None) -> None:
    """Frames at these times, which are the first of a clip of `of` frames, inverted."""
    times, found = zip(*shown(path), strict=True)
    if pts is not None:
        assert times == tuple(pts)
    expected = [255 - level for level in levels(of or len(times))]
    assert all(abs(a - b) <= 2 for a, b in zip(found, expected, strict=False))


def packets(path: str | Path, kind: str) -> list[tuple[float, bytes]]:
    """Times in seconds, and contents, of the packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            (round(float(packet.pts * packet.time_base), 3), bytes(packet))
            for packet in container.demux(stream)
            if packet.pts is not None
        ]


def cut(path: Path, share: float) -> Path:
    """Leave only the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
