"""Find antialiased `Resize` in an ONNX graph, without an ONNX library.

OpenVINO silently ignores `antialias=1` of `Resize`.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from maxim_deploy.spec.onnx_locations import fields

_GRAPH, _NODE, _OPERATOR, _ATTRIBUTE, _NAME = 7, 1, 4, 5, 1

_YES = b"\x18\x01"
"""The encoded field `i` (an integer) of an attribute with the value 1."""


def resizes_with_antialias(graph: Path) -> bool:
    """Whether a node of the main graph is a `Resize` with `antialias=1`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a protocol buffer.
    """
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(
            _is_antialiased(content, begin, end)
            for number, start, stop in fields(content, 0, len(content))
            if number == _GRAPH
            for inside, begin, end in fields(content, start, stop)
            if inside == _NODE
        )


def _is_antialiased(content: mmap.mmap, start: int, end: int) -> bool:
    parts = [*fields(content, start, end)]
    if not any(number == _OPERATOR and content[a:b] == b"Resize" for number, a, b in parts):
        return False
    return any(
        content[c:d] == b"antialias" and _YES in content[d:b]
        for number, a, b in parts
        if number == _ATTRIBUTE
        for name, c, d in fields(content, a, b)
        if name == _NAME
    )
