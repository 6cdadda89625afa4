"""Read any safetensors file, and write our own layout.

A file has eight bytes with the length of the header as a little-endian integer, then the header,
which is JSON padded with spaces to a multiple of eight, then the arrays' bytes. The header maps
each name to `dtype`, `shape` and `data_offsets` (from the end of the header). In our layout:

- names are the published paths without `opt/target/`, sorted; arrays are "F32", published layout
- `__metadata__`, strings: `maxim_deploy_format` ("1"), `architecture` (JSON), and the known fields
  of the descriptor. `source` and `source_sha256` are those of the file the weights first came from.

The bytes depend only on the weights and their descriptor. The safetensors library writes metadata
in random order, so it serves only for checks. Not checked on reading: whether `architecture` agrees
with the arrays. The arrays decide.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from maxim_deploy._files import atomic_file
from maxim_deploy._optional import require
from maxim_deploy._reading import load_json
from maxim_deploy.checkpoints.checks import check_bytes
from maxim_deploy.checkpoints.entries import Stored, as_float32, not_floating
from maxim_deploy.checkpoints.selection import select_weights
from maxim_deploy.errors import CheckpointError

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.checkpoint import Arrays, Checkpoint

FORMAT_KEY = "maxim_deploy_format"
FORMAT = "1"

_MAX_HEADER = 100_000_000  # the safetensors library refuses longer ones
_MOST_HEADER = 16 * 2**20
"""Most bytes of a header. That of M-3 with its optimiser state has 1 MB."""


def write_safetensors(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically. `read_checkpoint` returns an equal one.

    Raises:
        CheckpointError: the file cannot be written.
    """
    write_arrays(Path(path), checkpoint.arrays, checkpoint)


def write_arrays(path: Path, arrays: Arrays, checkpoint: Checkpoint) -> None:
    """Write named float32 arrays with the metadata of the checkpoint that they come from.

    Raises:
        CheckpointError: the file cannot be written.
    """
    header = _header(arrays, checkpoint)
    try:
        with atomic_file(path) as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _, array in sorted(arrays.items()):
                file.write(array.astype("<f4", order="C", copy=False).data)
    except OSError as error:
        raise CheckpointError(f"cannot write the weights to {str(path)!r}: {error}") from error


def _header(arrays: Arrays, checkpoint: Checkpoint) -> bytes:
    metadata = {
        FORMAT_KEY: FORMAT,
        "architecture": json.dumps(checkpoint.architecture.to_json()),
        **checkpoint.descriptor.to_json(),
    }
    entries: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for path, array in sorted(arrays.items()):
        end = start + array.size * 4
        entries[path] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def is_safetensors(head: bytes) -> bool:
    """Whether a file may be a safetensors file, by its first nine bytes."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def read_safetensors(path: Path) -> Stored:
    """The contents of a safetensors file, and its metadata.

    Raises:
        CheckpointError: the file is damaged, of a later format, or has arrays that are not floats.
    """
    entries, start = _entries_of(path)
    metadata = entries.pop("__metadata__", None) or {}  # the library accepts null
    if metadata.get(FORMAT_KEY, FORMAT) != FORMAT:
        raise CheckpointError(
            f"its {FORMAT_KEY} is {metadata[FORMAT_KEY]}, this maxim-deploy reads {FORMAT}: "
            "upgrade maxim-deploy"
        )
    selection = select_weights(dict.fromkeys(entries))
    taken = {short: entries[name] for short, name in selection.names.items()}
    for short, entry in taken.items():
        if entry["dtype"] not in _TYPES:
            raise not_floating(selection.names[short], entry["dtype"])
    check_bytes(sum(end - begin for begin, end in (one["data_offsets"] for one in taken.values())))

    def read() -> Arrays:
        with path.open("rb") as file:
            return {short: _decoded(file, start, **entry) for short, entry in taken.items()}

    shapes = {short: tuple(entry["shape"]) for short, entry in taken.items()}
    return Stored(shapes, selection, read, metadata)


def _entries_of(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and the offset of the data, after the library's checks.

    Raises:
        CheckpointError: the file is damaged, or the header is longer than any network's.
    """
    safetensors = require("safetensors", "export")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MOST_HEADER:
                raise CheckpointError(
                    f"its header has {length:,} bytes; expected at most {_MOST_HEADER:,}"
                )
            header = load_json(file.read(length))
        # The library maps the file and checks the header without reading data.
        with safetensors.safe_open(str(path), framework="numpy"):
            return dict(header), 8 + length
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"a truncated or damaged safetensors file ({error}); copy or download the file again"
        ) from error


_TYPES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""Decode an array. NumPy lacks bfloat16, which is the upper half of a float32."""


def _decoded(
    file: BinaryIO, start: int, dtype: str, shape: list[int], data_offsets: list[int]
) -> npt.NDArray[np.float32]:
    file.seek(start + data_offsets[0])
    stored = np.fromfile(file, _TYPES[dtype], math.prod(shape)).reshape(shape)
    if dtype == "BF16":  # widening is exact
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return as_float32(stored)
