"""Read files of weights, recognised by content rather than by extension.

Accepted are the published `.npz`, safetensors, and state dicts saved by `torch.save`. No pickled
object is ever executed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from maxim_deploy._optional import require
from maxim_deploy.checkpoints.archive import Archive
from maxim_deploy.checkpoints.checks import check_bytes
from maxim_deploy.checkpoints.entries import Stored, as_float32, not_floating
from maxim_deploy.checkpoints.safetensors_file import is_safetensors, read_safetensors
from maxim_deploy.checkpoints.selection import select_weights
from maxim_deploy.errors import CheckpointError, shown

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.checkpoint import Arrays

KINDS = "a published .npz, a .safetensors file, or a PyTorch file with a state dict"

T = TypeVar("T")


def read_stored(path: Path) -> Stored:
    """The contents of a file of weights, with any names. The data are not read yet.

    Raises:
        CheckpointError: the file is of another kind or damaged, or has arrays that are not floats.
        MissingDependencyError: the library for this kind is not installed.
    """
    return _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], Stored]:
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        return _zip_reader(path)
    if is_safetensors(head):
        return read_safetensors
    # A bare pickle, as torch.save wrote before PyTorch 1.6.
    if head.startswith(b"\x80"):
        return _read_pytorch
    found = f"it starts with {head!r}" if head else "it is empty"
    raise CheckpointError(f"not a file of weights, {found}; expected {KINDS}")


def _zip_reader(path: Path) -> Callable[[Path], Stored]:
    try:
        with Archive(path) as archive:
            members = archive.members
    except (OSError, ValueError, MemoryError) as error:
        raise CheckpointError(
            f"a truncated or damaged zip ({error}); copy or download the file again"
        ) from error
    names = [member.filename for member in members]
    if any(name.endswith("data.pkl") for name in names):
        _check_stored_plainly(members)
        return _read_pytorch
    if any(name.endswith(".npy") for name in names):
        return _read_npz
    raise CheckpointError(
        f"a zip without weights, its {len(names)} members begin with {shown(names[:3])}; "
        f"expected {KINDS}"
    )


def _check_stored_plainly(members: list[zipfile.ZipInfo]) -> None:
    """Refuse compressed members: PyTorch's reader would decompress them without a limit."""
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"its member {shown(member.filename)} is compressed, which torch.save never does; "
                "save it with torch.save(model.state_dict(), FILE)"
            )


def _read_npz(path: Path) -> Stored:
    with Archive(path) as archive:
        selection = select_weights(dict.fromkeys(archive.names))
        headers = {
            short: _of_entry(name, archive.header) for short, name in selection.names.items()
        }
    for short, name in selection.names.items():
        if headers[short].dtype.kind != "f":
            raise not_floating(name, headers[short].dtype)
    check_bytes(sum(header.bytes for header in headers.values()))

    def read() -> Arrays:
        with Archive(path) as archive:
            return {
                short: as_float32(_of_entry(name, archive.array))
                for short, name in selection.names.items()
            }

    return Stored({short: header.shape for short, header in headers.items()}, selection, read)


def _of_entry(name: str, read: Callable[[str], T]) -> T:
    try:
        return read(name)
    except (OSError, ValueError, MemoryError) as error:
        raise CheckpointError(
            f"entry {shown(name)} is damaged or not a plain array ({error}); nothing was "
            "unpickled. Copy or download the file again, or save float arrays with numpy.savez"
        ) from error


def _read_pytorch(path: Path) -> Stored:
    torch = require("torch", "export")
    try:
        # Mapped into memory, so only the weights are read. Bare pickles cannot be mapped.
        content = torch.load(
            str(path), map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    # A damaged pickle can make the unpickler raise any type.
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
    tensors = {short: content[name] for short, name in selection.names.items()}
    for short, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            kind = getattr(tensor, "dtype", type(tensor).__name__)
            raise not_floating(selection.names[short], kind)
    check_bytes(sum(_size_of(tensor) for tensor in tensors.values()))
    shapes = {short: tuple(tensor.shape) for short, tensor in tensors.items()}

    def read() -> Arrays:
        return {short: _array(selection.names[short], one) for short, one in tensors.items()}

    return Stored(shapes, selection, read)


def _size_of(tensor: Any) -> int:
    return int(tensor.numel()) * int(tensor.element_size())


def _array(name: str, tensor: Any) -> npt.NDArray[np.float32]:
    torch = require("torch", "export")
    try:
        # Copied: the tensor is a view of the file, which may change.
        return as_float32(tensor.to(torch.float32, copy=True).numpy(force=True))
    except (TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"parameter {shown(name)} is not a plain tensor in memory: {error} Save dense tensors"
        ) from error
