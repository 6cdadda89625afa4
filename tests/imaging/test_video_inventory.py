"""Each row of the inventory of videos, with a video that carries the thing."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import av
import carrying
from carrying import elementary, of_pictures, packets_of, remuxed, sei, with_packets
from clips import VARIABLE, clip, packets, shown
from PIL import Image, ImageCms

from maxim_deploy.errors import VideoError
from maxim_deploy.imaging.inventory import Carried, table
from maxim_deploy.imaging.video import VideoEncoding, VideoReader, VideoWriter
from maxim_deploy.imaging.video.frame_data import Canvases, carrier_of
from maxim_deploy.imaging.video.inventory import VIDEOS

CAPTIONS = "A53_CC"
STEREO = {"x264-params": "frame-packing=3"}
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR = {"x264-params": f"mastering-display={DISPLAY}:cll=1000,400"}
TWO = range(0, 7200, 3600)


@dataclass
class Case:
    """A video that carries something, and its result.

    `seen` reads it; `words` are in the warning or the error.
    """

    source: Path
    target: str = "out.mkv"
    codec: str = "h264"
    seen: Callable[[Path], object] = lambda _: None
    words: str = ""


Walk = Callable[[], Iterator[Case]]
WALKS: dict[tuple[str, str], Walk] = {}


def walks(kind: str, thing: str) -> Callable[[Walk], Walk]:
    return lambda walk: WALKS.setdefault((kind, thing), walk)


def restore(case: Case) -> None:
    """Write the frames as they are."""
    reader, target = VideoReader(case.source), Path(case.target)
    writer = VideoWriter(target, reader, target, VideoEncoding(case.codec))
    for frame in reader:
        writer.write(frame.rgb, frame)
    writer.close(reader.rest)
    reader.close()


@pytest.mark.parametrize("row", VIDEOS, ids=lambda row: f"{row.kind}: {row.thing}")
def test_what_becomes_of_it(row: Carried, folder: Path, caplog: pytest.LogCaptureFixture):
    for case in WALKS[row.kind, row.thing]():
        caplog.clear()
        if row.outcome == "refused":
            with pytest.raises(VideoError) as caught:
                restore(case)
            assert case.words in str(caught.value)
            continue
        with caplog.at_level(logging.WARNING):
            restore(case)
        VideoReader(Path(case.target)).close()  # a result is never one that we cannot read
        if row.outcome == "kept":
            assert caplog.messages == []
            assert case.seen(case.source) == case.seen(Path(case.target))
            assert case.seen(case.source)
        else:
            assert any(case.words in message for message in caplog.messages), caplog.messages


def test_frames_that_carry_nothing_of_note_are_no_loss(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    """MPEG-2 has a window and a timecode in any case, and encoders name themselves."""
    for source in (carrying.with_window("a.m2v", 64, 64), elementary("b.h264"), clip("c.ts")):
        restore(Case(source))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("numbers", "kept"),
    [
        ([1, 2] * 10 + [1, 1], True),
        ([1, 2] * 10 + [1, 0], False),  # without luminance
        ([1, 0] * 10 + [1, 1], False),
        ([-1, 2] * 10 + [1, 1], False),
        ([2, 1] * 10 + [1, 1], False),  # no chromaticity
        ([1, 2] * 9 + [1_000_000, 1] + [1, 1], False),  # brighter than H.264 can say
    ],
)
def test_a_mastering_display_that_h264_cannot_say_is_lost(numbers: list[int], kept: bool):
    name = "MASTERING_DISPLAY_METADATA"
    data = {name: struct.pack("=22i", *numbers)}
    canvases = Canvases(data, has_place=True)
    assert bool(canvases.parameters) == kept
    carrier = carrier_of(av.VideoFrame(64, 64, "yuv420p"))
    canvases.canvas(frozenset(data), carrier, np.zeros((64, 64, 3), np.uint8))
    assert canvases.lost == ([] if kept else ["mastering display"])


def test_each_row_is_walked_once():
    assert len(VIDEOS) == len(WALKS)


# What is seen of a video


def frame_data(name: str) -> Callable[[Path], list[bytes]]:
    """Of the frames that have it; HDR metadata are in keyframes alone."""

    def read(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            data = [frame.side_data.get(name) for frame in container.decode(video=0)]
        return [bytes(one) for one in data if one is not None]

    return read


def context(*names: str) -> Callable[[Path], list[object]]:
    def read(path: Path) -> list[object]:
        with av.open(str(path)) as container:
            return [getattr(container.streams.video[0].codec_context, name) for name in names]

    return read


def tag(key: str) -> Callable[[Path], str | None]:
    """As it is in the file or in its video; Matroska writes it in capitals."""

    def read(path: Path) -> str | None:
        with av.open(str(path)) as container:
            found = {**container.streams.video[0].metadata, **container.metadata}
        return {name.lower(): value for name, value in found.items()}.get(key)

    return read


def of_streams(read: Callable[[Any], object]) -> Callable[[Path], list[object]]:
    def read_all(path: Path) -> list[object]:
        with av.open(str(path)) as container:
            return [read(stream) for stream in container.streams]

    return read_all


def of(kind: str) -> Callable[[Path], list[bytes]]:
    return lambda path: [data for _, data in packets(path, kind)]


# Pictures


@walks("any", "time and duration of each frame")
def times() -> Iterator[Case]:
    for target in ("out.mp4", "out.mov"):
        source = clip("a.mp4", sound=False)
        yield Case(source, target, seen=lambda path: [time for time, _ in shown(path)])


@walks("any", "8 to 16 bits per channel")
def bits() -> Iterator[Case]:
    for codec, bits in (("h264", ""), ("h264", "10le"), ("ffv1", "12le"), ("ffv1", "16le")):
        source = clip("a.mkv", TWO, codec="ffv1", pixel_format=f"yuv444p{bits}")
        yield Case(source, codec=codec, seen=context("pix_fmt"))


@walks("any", "chroma subsampling")
def subsampling() -> Iterator[Case]:
    for pixel_format in ("yuv420p", "yuv422p", "yuv444p"):
        source = clip("a.mkv", TWO, codec="ffv1", pixel_format=pixel_format)
        yield Case(source, seen=context("pix_fmt"))


@walks("any", "location of chroma")
def chroma_location() -> Iterator[Case]:
    columns = np.broadcast_to(np.arange(48, dtype=np.uint8), (32, 48))
    ramp = np.stack([60 + 3 * columns, 120 + 0 * columns, 220 - 3 * columns], axis=-1)

    def chroma(path: Path) -> list[object]:
        with av.open(str(path)) as container:
            plane = next(container.decode(video=0)).planes[1]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
        # An eighth of the distance between two samples would show in the mean.
        return [VideoReader(path).chroma_location, round(float(rows[4:-4, 4:-4].mean()) * 2)]

    for location in ("left", "center", "topleft", "top"):
        options = {"chroma_sample_location": location}
        source = clip("a.mkv", (0,), codec="ffv1", frames=[ramp], options=options, sound=False)
        yield Case(source, codec="ffv1", seen=chroma)
        source = clip("b.mp4", (0,), frames=[ramp], options={**options, "crf": "1"}, sound=False)
        yield Case(source, "out.mp4", seen=lambda path: VideoReader(path).chroma_location)


@walks("any", "colour matrix, range, primaries, transfer")
def colours() -> Iterator[Case]:
    tags = {"colorspace": 9, "color_range": 2, "color_primaries": 9, "color_trc": 16}
    for target in ("out.mp4", "out.mov", "out.mkv"):
        yield Case(clip("a.mp4", TWO, sound=False, **tags), target, seen=context(*tags))


@walks("any", "pixel aspect ratio")
def pixel_aspect() -> Iterator[Case]:
    source = clip("a.mp4", TWO, sample_aspect_ratio=Fraction(4, 3))
    for target in ("out.mp4", "out.mkv"):
        yield Case(source, target, seen=context("sample_aspect_ratio"))


@walks("any", "rotation and mirroring")
def rotation() -> Iterator[Case]:
    for degrees, mirrored in ((90, False), (270, True)):
        source = clip("a.mp4", TWO, rotation=(degrees, mirrored))
        yield Case(source, "out.mp4", seen=lambda path: VideoReader(path).height)


@walks("any", "transparency")
def transparency() -> Iterator[Case]:
    yield Case(clip("a.mkv", TWO, codec="ffv1", pixel_format="yuva420p"), words="transparency")
    for codec in ("libvpx", "libvpx-vp9"):
        alpha = {"pixel_format": "yuva420p", "options": {"auto-alt-ref": "0"}}
        source = clip("b.webm", TWO, codec=codec, sound=False, **alpha)
        yield Case(source, words="transparency")


@walks("any", "interlaced frames")
def interlaced() -> Iterator[Case]:
    options = {"flags": "+ilme+ildct", "x264-params": "interlaced=1"}
    yield Case(clip("a.mkv", TWO, options=options), words="interlaced")


# What frames carry


@walks("to H.264", "closed captions in frames")
def captions() -> Iterator[Case]:
    for target in ("out.mp4", "out.mkv"):
        yield Case(elementary("a.h264", carrying.CAPTIONS), target, seen=frame_data(CAPTIONS))


@walks("to FFV1", "closed captions in frames")
def captions_lost() -> Iterator[Case]:
    yield Case(elementary("a.h264", carrying.CAPTIONS), codec="ffv1", words="closed captions")


@walks("to H.264", "stereo layout")
def stereo() -> Iterator[Case]:
    yield Case(elementary("a.h264", options=STEREO), "out.mp4", seen=frame_data("STEREO3D"))


@walks("to FFV1", "stereo layout")
def stereo_lost() -> Iterator[Case]:
    yield Case(elementary("a.h264", options=STEREO), codec="ffv1", words="stereo layout")


@walks("to H.264", "mastering display, content light level")
def hdr() -> Iterator[Case]:
    source = elementary("a.h264", options=HDR)
    yield Case(source, "out.mp4", seen=frame_data("MASTERING_DISPLAY_METADATA"))
    yield Case(source, "out.mkv", seen=frame_data("CONTENT_LIGHT_LEVEL"))


@walks("to FFV1", "mastering display, content light level")
def hdr_lost() -> Iterator[Case]:
    source = elementary("a.h264", options=HDR)
    yield Case(source, codec="ffv1", words="content light level, mastering display")


@walks("any", "HDR10+, HDR Vivid and Dolby Vision metadata")
def dynamic_hdr() -> Iterator[Case]:
    yield Case(elementary("a.hevc", carrying.HDR10_PLUS), words="HDR10+ metadata")
    yield Case(elementary("b.hevc", carrying.DOLBY_VISION), words="Dolby Vision metadata")


@walks("any", "ambient viewing environment")
def ambient() -> Iterator[Case]:
    message = sei(carrying.AMBIENT, bytes((0, 0, 1, 0, 1, 1, 1, 1)))
    yield Case(elementary("a.h264", message), words="ambient viewing environment")


@walks("any", "spherical projection")
def spherical() -> Iterator[Case]:
    inside = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
    source = carrying.with_box(clip("a.mp4", TWO), *inside, box=carrying.EQUIRECTANGULAR)
    yield Case(source, "out.mp4", words="spherical projection")


@walks("any", "ICC profile")
def icc_profile() -> Iterator[Case]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield Case(of_pictures("a.mov", "mjpeg", icc_profile=profile), words="ICC profile")
    yield Case(of_pictures("b.mov", "png", icc_profile=profile), words="PyAV does not read")
    exif = Image.Exif()
    exif[0x010F] = "A maker"  # libav's type of EXIF has no name in PyAV
    yield Case(of_pictures("c.mov", "mjpeg", exif=exif), words="PyAV does not read")


@walks("any", "active format description, pan and scan window")
def format_description() -> Iterator[Case]:
    yield Case(elementary("a.h264", carrying.ASPECT), words="active format description")
    yield Case(carrying.with_window("b.m2v", 32, 64), words="pan and scan window")


@walks("any", "user data in frames")
def user_data() -> Iterator[Case]:
    message = sei(carrying.USER_DATA, bytes(range(16)) + b"a camera's own")
    yield Case(elementary("a.h264", message), words="user data")


@walks("any", "timecode in frames")
def timecode_in_frames() -> Iterator[Case]:
    frames = packets_of("mpeg2video", {"gop_timecode": "01:02:03:04"})
    Path("a.m2v").write_bytes(b"".join(map(bytes, frames)))
    yield Case(Path("a.m2v"), words="timecode")


# What files carry


@walks("from .mov, .mp4", "timecode track")
def timecode_track() -> Iterator[Case]:
    for name in ("a.mov", "a.mp4"):
        source = carrying.with_timecode(name, "01:02:03:04")
        for target in ("out.mov", "out.mp4", "out.mkv"):
            yield Case(source, target, seen=tag("timecode"))


@walks("any", "titles and other metadata")
def metadata() -> Iterator[Case]:
    for target in ("out.mp4", "out.mov", "out.mkv"):
        yield Case(clip("a.mp4", TWO, sound=False), target, seen=tag("title"))


@walks("from .mov, .mp4", "metadata of QuickTime")
def quicktime() -> Iterator[Case]:
    key = "com.apple.quicktime.location.iso6709"
    options = {"movflags": "use_metadata_tags"}
    with av.open("a.mov", "w", options=options) as output:
        output.metadata[key] = "+48.8584+002.2945/"
        output.metadata["title"] = "A title"
        with av.open(str(clip("plain.mp4", TWO))) as plain:
            stream = output.add_stream_from_template(plain.streams.video[0], opaque=True)
            for packet in plain.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
    for target in ("out.mov", "out.mp4", "out.mkv"):
        for name in (key, "title"):
            yield Case(Path("a.mov"), target, seen=tag(name))


@walks("to .mp4, .mov", "metadata that they have no place for")
def metadata_lost() -> Iterator[Case]:
    source = remuxed(
        clip("plain.mp4", TWO),
        "a.mkv",
        lambda output, streams: (
            output.metadata.update(MOOD="a mood"),
            streams[1].metadata.update(title="commentary"),
        ),
    )
    for target in ("out.mp4", "out.mov"):
        yield Case(source, target, words="MOOD")
    yield Case(source, "out.mp4", words="title")


@walks("from .mkv", "statistics of its streams")
def statistics() -> Iterator[Case]:
    counts = {"BPS": "1000", "NUMBER_OF_FRAMES-eng": "2", "_STATISTICS_TAGS": "BPS"}
    source = remuxed(
        clip("plain.mp4", TWO), "a.mkv", lambda _, streams: streams[0].metadata.update(counts)
    )
    yield Case(source, words="statistics of streams, which are no longer true")
    with av.open("out.mkv") as made:
        assert made.streams.video[0].metadata.keys().isdisjoint(counts)


@walks("any", "languages")
def languages() -> Iterator[Case]:
    for target in ("out.mp4", "out.mkv"):
        yield Case(clip("a.mp4", TWO), target, seen=of_streams(lambda one: one.language))


@walks("to .mov", "languages that it has no number for")
def languages_lost() -> Iterator[Case]:
    yield Case(clip("a.mp4", TWO), "out.mov", words="language of stream 1")


def disposed(name: str, disposition: av.stream.Disposition) -> Path:
    return remuxed(
        clip("plain.mp4", TWO),
        name,
        lambda _, streams: setattr(streams[1], "disposition", disposition),
    )


@walks("any", "dispositions")
def dispositions() -> Iterator[Case]:
    flags = av.stream.Disposition
    yield Case(
        disposed("a.mkv", flags.default | flags.comment | flags.original),
        seen=of_streams(lambda one: one.disposition),
    )


@walks("to .mp4, .mov", "dispositions that they have no place for")
def dispositions_lost() -> Iterator[Case]:
    flags = av.stream.Disposition
    source = disposed("a.mkv", flags.default | flags.original)
    yield Case(source, "out.mp4", words="disposition original of stream 1")


@walks("any", "chapters")
def chapters() -> Iterator[Case]:
    def read(path: Path) -> list[str]:
        with av.open(str(path)) as container:
            return [chapter["metadata"]["title"] for chapter in container.chapters()]

    source = clip("a.mkv", subtitles=True)
    yield Case(source, "out.mkv", seen=read)
    source = remuxed(
        clip("b.mp4", sound=False), "c.mkv", lambda output, _: output.set_chapters(CHAPTERS)
    )
    for target in ("out.mp4", "out.mov", "out.mkv"):
        yield Case(source, target, seen=read)
        yield Case(Path(target), "again.mkv", seen=read)  # of MP4, where they are a track too


CHAPTERS: Any = [
    {
        "id": 1,
        "start": 0,
        "end": 500,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": "One"},
    }
]


# Streams


@walks("any", "sound")
def sound() -> Iterator[Case]:
    for target in ("out.mp4", "out.mkv"):
        yield Case(clip("a.mp4"), target, seen=of("audio"))
    source = carrying.with_ac3("a.mkv", clip("plain.mp4", TWO, sound=False))
    yield Case(source, "out.mp4", seen=of_streams(lambda one: one.codec_context.name))
    # Matroska holds them in the form of AVI, and the question whether it knows them says no.
    for codec in ("adpcm_ima_wav", "adpcm_ms"):
        rate = Fraction(1, 25)
        source = clip("a.avi", range(8), codec="mpeg4", time_base=rate, max_b_frames=0, sound=codec)
        yield Case(source, seen=lambda path: b"".join(of("audio")(path)))


@walks("any", "subtitles")
def subtitles() -> Iterator[Case]:
    yield Case(clip("a.mkv", VARIABLE, subtitles=True), seen=of("subtitle"))
    # libav has no decoder of these; muxers take them all the same.
    yield Case(with_packets("a.mp4", "ttml", b"<tt/>", b"<tt/>"), "out.mp4", seen=of("subtitle"))
    yield Case(with_packets("b.mkv", "hdmv_text_subtitle", b"abc", b"def"), seen=of("subtitle"))


@walks("any", "sound that the container does not take")
def sound_refused() -> Iterator[Case]:
    source = clip("a.mkv", TWO, sound="flac")
    yield Case(source, "out.mov", words="write .mkv, or leave it out with --drop audio")
    source = carrying.with_foreign_sound(clip("a.mp4", TWO))
    yield Case(source, "out.mp4", words=".mp4 cannot hold stream 1 (audio) of the input")


@walks("any", "sound that libav does not decode, beside other sound")
def foreign_sound() -> Iterator[Case]:
    source = carrying.with_foreign_sound(carrying.with_ac3("a.mp4", clip("plain.mp4", TWO)))
    yield Case(source, "out.mp4", words="left out: stream 1 (audio)")


@walks("any", "subtitles that the container does not take")
def subtitles_refused() -> Iterator[Case]:
    source = clip("a.mkv", TWO, subtitles=True)
    yield Case(source, "out.mp4", words="write .mkv, or leave it out with --drop subtitles")


@walks("any", "teletext")
def teletext() -> Iterator[Case]:
    source = with_packets("a.ts", "dvb_teletext", b"\x10" + bytes(45), b"\x10" + bytes(45))
    for target in ("out.mkv", "out.mp4"):
        yield Case(source, target, words="left out: stream 2 (subtitle, such as teletext)")


@walks("any", "data streams")
def data() -> Iterator[Case]:
    source = with_packets("a.ts", "klv", bytes(20), bytes(20))
    yield Case(source, words="left out: stream 2 (data)")


def with_font(name: str) -> Path:
    return remuxed(
        clip("plain.mp4", TWO),
        name,
        lambda output, _: output.add_attachment("font.ttf", "font/ttf", b"abc") and None,
    )


@walks("to .mkv", "attachments")
def attachments() -> Iterator[Case]:
    yield Case(with_font("a.mkv"), seen=of_streams(lambda one: getattr(one, "data", b"")))


@walks("to .mp4, .mov", "attachments")
def attachments_lost() -> Iterator[Case]:
    yield Case(with_font("a.mkv"), "out.mp4", words="left out: stream 2 (attachment)")


@walks("any", "further video streams, cover pictures")
def further_video() -> Iterator[Case]:
    source = carrying.with_cover("a.mp4", clip("plain.mp4", TWO))
    yield Case(source, words="left out: stream 2 (video in mjpeg)")


# The documentation


def test_the_documentation_has_the_table():
    page = Path(__file__).parents[2] / "docs" / "reference" / "what-files-keep.md"
    assert table(VIDEOS) in page.read_text("utf-8")
