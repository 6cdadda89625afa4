"""The format of the answer: by the query `format`, by the header `Accept`, else PNG."""

from __future__ import annotations

from collections.abc import Mapping

from maxim_deploy.errors import unknown
from maxim_deploy.imaging.files import FORMAT_OF_SUFFIX
from maxim_deploy.serving.http.refusals import Refusal

NAMES = {suffix.removeprefix("."): name for suffix, name in FORMAT_OF_SUFFIX.items()}
"""Formats by the words that `format` takes."""

MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WebP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
_BY_TYPE = {
    **{media_type: name for name, media_type in MEDIA_TYPES.items()},
    "image/*": "PNG",
    "*/*": "PNG",
}
"""PNG is without loss and holds all that belongs to a picture, so it is what `any` means."""


def format_asked_for(query: Mapping[str, str], accept: str) -> str:
    """The name of a format, such as "PNG".

    Args:
        query: of the request; `format` wins over the header.
        accept: the header `Accept`, or an empty string.

    Raises:
        Refusal: 400 for a query that is unknown, 406 if no type of the header is written.
    """
    if strange := next((name for name in query if name != "format"), None):
        raise Refusal(400, unknown("query", strange, ("format",)), "bad_request")
    if (asked := query.get("format")) is not None:
        if (name := NAMES.get(asked.lower())) is None:
            raise Refusal(400, unknown("format", asked, NAMES), "bad_request")
        return name
    if not accept.strip():
        return "PNG"
    for media_type in _accepted(accept):
        if media_type in _BY_TYPE:
            return _BY_TYPE[media_type]
    written = ", ".join(MEDIA_TYPES.values())
    raise Refusal(406, f"no type of the header Accept is written here | written are {written}")


def _accepted(header: str) -> list[str]:
    """Media types with a weight above 0, those of the greatest weight first, see RFC 9110."""
    weighted: list[tuple[float, str]] = []
    for item in header.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weighted.append((weight, media_type))
    # `sorted` keeps the client's order among equal weights.
    return [one for weight, one in sorted(weighted, key=lambda it: -it[0]) if weight > 0]
