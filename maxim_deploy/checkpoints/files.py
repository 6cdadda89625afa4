"""Files of weights, by content and not by extension, to arrays under the names in the file.

Accepted: the published `.npz`; safetensors; what `torch.save` makes of a state dict. No pickled
object is ever executed.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maxim_deploy._optional import require
from maxim_deploy.checkpoints.entries import Stored, as_float32, not_floating
from maxim_deploy.checkpoints.safetensors_file import is_safetensors, read_safetensors
from maxim_deploy.checkpoints.selection import select_weights
from maxim_deploy.errors import CheckpointError

KINDS = "a published .npz, a .safetensors file, or a PyTorch file with a state dict"

# From a zip, or an entry in it, that is cut, changed, encrypted, pickled or absurdly large.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError, OSError, MemoryError
)  # fmt: skip


def read_stored(path: Path) -> Stored:
    """Everything that counts in a file of weights, whatever its names.

    Raises:
        CheckpointError: not one of the accepted kinds, damaged, or with arrays that are not floats.
        MissingDependencyError: the library for this kind of file is not installed.
    """
    return _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], Stored]:
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        return _zip_reader(path)
    if is_safetensors(head):
        return read_safetensors
    # A bare pickle: so wrote torch.save before PyTorch 1.6.
    if head.startswith(b"\x80"):
        return _read_pytorch
    found = f"it starts with {head!r}" if head else "it is empty"
    raise CheckpointError(f"not a file of weights, {found}; expected {KINDS}")


def _zip_reader(path: Path) -> Callable[[Path], Stored]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _UNREADABLE as error:
        raise CheckpointError(
            f"a truncated or damaged zip ({error}); copy or download the file again"
        ) from error
    if any(name.endswith("data.pkl") for name in names):
        return _read_pytorch
    if any(name.endswith(".npy") for name in names):
        return _read_npz
    raise CheckpointError(
        f"a zip without weights, its {len(names)} members begin with {names[:3]}; expected {KINDS}"
    )


def _read_npz(path: Path) -> Stored:
    with np.load(path, allow_pickle=False) as archive:
        selection = select_weights(dict.fromkeys(archive.files))
        arrays = {short: _npz_array(archive, name) for short, name in selection.names.items()}
        return Stored(arrays, selection)


def _npz_array(archive: Any, name: str) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(archive[name])
    except _UNREADABLE as error:
        raise CheckpointError(
            f"entry {name!r} is damaged or not a plain array ({error}); nothing was unpickled. "
            "Copy or download the file again, or save float arrays with numpy.savez"
        ) from error
    if array.dtype.kind != "f":
        raise not_floating(name, array.dtype)
    return as_float32(array)


def _read_pytorch(path: Path) -> Stored:
    torch = require("torch", "export")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle can make the unpickler raise anything.
    except Exception as error:
        raise CheckpointError(
            f"PyTorch cannot load it as plain tensors ({type(error).__name__}): it is damaged, or "
            "holds other Python objects, which are never executed. Save the tensors alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"the PyTorch file holds a {type(content).__name__}; expected a dict of names to "
            "tensors, or dicts around one, such as {'state_dict': ...}"
        )
    selection = select_weights(content)
    for key in selection.keys:
        content = content[key]
    arrays = {}
    for short, name in selection.names.items():
        value = content[name]
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            raise not_floating(name, getattr(value, "dtype", type(value).__name__))
        try:
            arrays[short] = as_float32(value.to(torch.float32).numpy(force=True))
        except (TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"parameter {name!r} is no plain tensor in memory: {error} Save dense tensors"
            ) from error
    return Stored(arrays, selection)
