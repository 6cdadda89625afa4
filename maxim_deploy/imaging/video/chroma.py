"""The location of the samples of subsampled chroma.

PyAV does not expose it. But libav's Matroska muxer writes it into two elements of the header, so we
make a header in memory and read it.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from maxim_deploy._optional import require

if TYPE_CHECKING:
    from av import VideoStream

_SITING = re.compile(rb"\x55\xb7\x81(.)\x55\xb8\x81(.)", re.DOTALL)
"""ChromaSitingHorz and ChromaSitingVert, one byte each: 1 collocated, 2 shifted by half a
sample."""

_NAMES = {(1, 2): "left", (2, 2): "center", (1, 1): "topleft", (2, 1): "top"}
"""libav's names by both elements. Matroska cannot express "bottom" and "bottomleft"."""


def chroma_location_of(stream: VideoStream) -> str | None:
    """libav's name of the location, for the encoder's option; None if unknown."""
    av = require("av", "video")
    header = io.BytesIO()
    with av.open(header, "w", format="matroska") as container:
        try:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
        except (ValueError, av.FFmpegError):  # Matroska does not accept every codec
            return None
        siting = _SITING.search(header.getvalue())
    return _NAMES.get((siting[1][0], siting[2][0])) if siting else None
