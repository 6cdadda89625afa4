"""The encoding of videos: codecs and the user's choices."""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.errors import UsageError


@dataclass(frozen=True)
class Codec:
    """An encoder of libav: its bit depths, and the CRF at which loss is hardly visible."""

    encoder: str
    bits: tuple[int, ...]
    crf: int | None
    options: dict[str, str]
    has_frame_data: bool
    """Whether its stream can hold closed captions and HDR metadata."""


CODECS = {
    "h264": Codec("libx264", (8, 10), 16, {}, True),
    "ffv1": Codec("ffv1", (8, 10, 12, 16), None, {"level": "3", "slicecrc": "1"}, False),
}
"""Codecs by the user's name. `ffv1` is lossless."""


@dataclass(frozen=True)
class VideoEncoding:
    """The encoding of a video.

    Attributes:
        codec: a key of `CODECS`.
        crf: constant quality, 0 (best) to 51; None for the codec's default.

    Raises:
        UsageError: the codec or the quality is unknown.
    """

    codec: str = "h264"
    crf: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise UsageError(f"codec {self.codec!r} | expected one of {', '.join(CODECS)}")
        if self.crf is not None and CODECS[self.codec].crf is None:
            raise UsageError(f"codec {self.codec!r} is lossless and takes no CRF | omit the CRF")
        if self.crf is not None and not 0 <= self.crf <= 51:
            raise UsageError(f"CRF {self.crf} | expected 0 (best) to 51")
