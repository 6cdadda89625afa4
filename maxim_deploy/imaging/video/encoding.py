"""How videos are encoded: the codecs, and what users choose."""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.errors import UsageError


@dataclass(frozen=True)
class Codec:
    """An encoder of libav: the bits it takes, and its CRF where the loss can hardly be seen."""

    encoder: str
    bits: tuple[int, ...]
    crf: int | None
    options: dict[str, str]
    has_frame_data: bool
    """Whether its stream has a place for closed captions and HDR metadata."""


CODECS = {
    "h264": Codec("libx264", (8, 10), 16, {}, True),
    "ffv1": Codec("ffv1", (8, 10, 12, 16), None, {"level": "3", "slicecrc": "1"}, False),
}
"""By the name that users give; `ffv1` is without loss."""


@dataclass(frozen=True)
class VideoEncoding:
    """How to encode.

    Attributes:
        codec: a key of `CODECS`.
        crf: constant quality, 0 (best) to 51; None for the codec's default.

    Raises:
        UsageError: there is no such codec or quality.
    """

    codec: str = "h264"
    crf: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise UsageError(f"codec {self.codec!r} | expected one of {', '.join(CODECS)}")
        if self.crf is not None and CODECS[self.codec].crf is None:
            raise UsageError(f"codec {self.codec!r} is without loss and takes no CRF")
        if self.crf is not None and not 0 <= self.crf <= 51:
            raise UsageError(f"CRF {self.crf} | expected 0 (best) to 51")
