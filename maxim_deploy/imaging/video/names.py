"""Recognise videos, and choose the containers of results."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy.errors import UsageError, nearest, quoted
from maxim_deploy.imaging.files import INPUT_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"}
    | {".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".ogm", ".vob", ".mxf", ".qt"}
    | {".m1v", ".m2v", ".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".y4m"}
)

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Written containers: libav's name by suffix."""


DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "asf", "flv",
    "ogg", "mxf", "h264", "hevc", "ivf", "yuv4mpegpipe",
    # These are images. The reader reports them as images.
    "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif_pipe",
)  # fmt: skip
"""libav's names of the containers that are read. Others are not tried, because some are lists of
further files, such as playlists, and libav would fetch their addresses."""

_STARTS = tuple(
    bytes.fromhex(start)
    for start in (
        "1a45dfa3",  # Matroska and WebM
        "000001ba",  # MPEG-PS
        "000001b3",  # MPEG-1 and MPEG-2 without a container
        "0000000109",  # H.264 without a container, that starts with a delimiter
        "0000000167",  # or with its parameters
        "0000000127",  # the same
        "0000000140",  # HEVC, the same
        "464c5601",  # FLV
        "3026b2758e66cf11",  # WMV and ASF
        "4f676753",  # Ogg
        "060e2b34",  # MXF
        "444b4946",  # IVF
        "595556344d50454732",  # YUV4MPEG2
    )
)
"""First bytes of video formats. Those of MP4, AVI and MPEG-TS are elsewhere."""

_BOXES = (b"moov", b"mdat", b"wide", b"free", b"skip")
"""Boxes that may start a MOV in place of `ftyp`."""

IMAGE_BRANDS = frozenset({"avif", "avis", "heic", "heix", "hevc", "hevx", "mif1", "msf1"})
"""Brands of images with MP4's layout: AVIF and HEIF."""

_TS_SYNC = 0x47

_HEAD = 512
"""Bytes to read. Three packets of MPEG-TS begin in them."""


def has_video_suffix(path: Path) -> bool:
    """Whether the suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_video(path: Path) -> bool:
    """Whether the suffix is that of a video, or is unknown and the content is that of a video."""
    if has_video_suffix(path) or path.suffix.lower() in INPUT_SUFFIXES:
        return has_video_suffix(path)
    try:
        # Reading anything but a file, such as a pipe, may block.
        return path.is_file() and is_video_start(_head(path))
    except OSError:
        return False


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def is_video_start(head: bytes) -> bool:
    """Whether a file that starts with these 512 bytes is a video."""
    if head[4:8] == b"ftyp":
        return head[8:12].decode("latin-1") not in IMAGE_BRANDS
    is_mov = head[4:8] in _BOXES
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    # Packets of MPEG-TS, plain or after four bytes of time.
    is_ts = len(head) == _HEAD and (
        set(head[::188]) == {_TS_SYNC} or set(head[4::192]) == {_TS_SYNC}
    )
    return is_mov or is_avi or is_ts or head.startswith(_STARTS)


def result_suffix(source: Path) -> str:
    """The container of a result in a folder: the source's, or Matroska, which holds any stream."""
    suffix = source.suffix.lower()
    return ".mp4" if suffix == ".m4v" else suffix if suffix in CONTAINERS else ".mkv"


def check_video_output(path: Path) -> None:
    """Check that a video can be written to a file of this name.

    Raises:
        UsageError: the suffix is not one of a written container; the message lists those.
    """
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(
            f"output {quoted(path)} | suffix {suffix!r}{nearest(suffix, CONTAINERS)} | "
            f"videos are written as {', '.join(CONTAINERS)}"
        )
