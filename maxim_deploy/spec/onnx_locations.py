"""Find the files in which an ONNX graph keeps its weights, without an ONNX library.

A library that runs a graph opens the files that the graph names. So the names are read first, and
only files that the manifest lists are allowed. The file is a protocol buffer. The walk visits all
messages that can hold a tensor, by their field numbers in `onnx.proto`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

_GRAPHS = {7: "graph", 25: "function"}
_TENSORS = {5: "tensor", 10: "tensor", 6: "graph", 11: "graph", 22: "sparse", 23: "sparse"}
_INSIDE = {
    "model": {**_GRAPHS, 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": _TENSORS,
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""For each message, its fields that are messages that may hold tensors."""

_FIXED = {1: 8, 5: 4}
"""Size in bytes of the wire types of fixed size."""
_VARINT, _LENGTH = 0, 2


def weights_files(graph: Path) -> set[str]:
    """The locations of all external data in an ONNX file, exactly as written.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a protocol buffer.
    """
    with graph.open("rb") as file:
        if not graph.stat().st_size:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return set(_locations(content, 0, len(content), "model"))


def _locations(content: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    for number, begin, stop in fields(content, start, end):
        inside = _INSIDE[message].get(number)
        if inside == "entry":
            entry = {key: content[a:b] for key, a, b in fields(content, begin, stop)}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode("utf-8")
        elif inside:
            yield from _locations(content, begin, stop, inside)


def fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin, end) of the fields with a length. Numeric fields are skipped."""
    at = start
    while at < end:
        tag, at = _varint(content, at, end)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(content, at, end)
            continue
        if kind == _LENGTH:
            length, at = _varint(content, at, end)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:  # groups: ONNX never used them
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + length > end:
            raise ValueError(f"a field at byte {at} extends beyond its message")
        if kind == _LENGTH:
            yield tag >> 3, at, at + length
        at += length


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """(the number at this offset, the offset behind it)."""
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"a number at byte {at} has no end")
