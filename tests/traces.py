"""Traced networks, kept between tests and between runs.

Tracing costs half a minute per stage. What `torch.onnx.export` returns is kept in pytest's cache by
a hash of all that it depends on: the sources of the network, its attributes and weights, the
arguments, and the versions of the libraries. Everything after the tracer runs anew in each test.
`pytest --cache-clear` forgets what is kept.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import os
import platform
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx_ir as ir
import torch
from filelock import FileLock
from torch import nn

import maxim_deploy

FOLDER = "MAXIM_DEPLOY_TEST_TRACES"
"""Environment variable: where traces are kept. Tests hand it to their child processes."""

KEPT_FILES = 24
"""More than one run of the suite needs, so that two branches can take turns."""

LIBRARIES = ("torch", "onnx", "onnx-ir", "onnxscript", "numpy")
OWN_ATTRIBUTES = vars(nn.Module()).keys()
ROOMS = ("model", "export/deployment")
"""Whose sources a network's `forward` is made of."""

trace = torch.onnx.export


def traced_anew(
    module: nn.Module, arguments: tuple[torch.Tensor, ...], **options: Any
) -> SimpleNamespace:
    """What `torch.onnx.export` returns now, written and read as what is kept is; only `model`.

    A graph that was read numbers the constants that are added to it in another way.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "traced.onnx")
        ir.save(trace(module, arguments, **options).model, path)
        return SimpleNamespace(model=ir.external_data.load_to_model(ir.load(path)))


def keep() -> None:
    """From now on, nothing is traced twice."""
    torch.onnx.export = kept_or_traced  # type: ignore[assignment]


def kept_or_traced(
    module: nn.Module, arguments: tuple[torch.Tensor, ...], **options: Any
) -> SimpleNamespace:
    """What `torch.onnx.export` returns now, or returned before; of it, only `model`."""
    path = Path(os.environ[FOLDER]) / f"{_key(module, arguments, options)}.onnx"
    with FileLock(path.with_suffix(".lock")):  # another process may be tracing the same
        if not path.exists():
            partial = path.with_suffix(".partial")
            ir.save(trace(module, arguments, **options).model, partial)
            partial.replace(path)
            _forget_oldest(path.parent)
        path.touch()  # used last
    # Also one traced just now is read, so that the first run tests what later ones do.
    return SimpleNamespace(model=ir.load(path))


def _key(module: nn.Module, arguments: tuple[torch.Tensor, ...], options: dict[str, Any]) -> str:
    """A hash of all that a trace depends on."""
    digest = hashlib.sha256()
    facts = [platform.python_version(), [importlib.metadata.version(name) for name in LIBRARIES]]
    facts += [[(tuple(x.shape), x.dtype) for x in arguments], sorted(options.items())]  # type: ignore[misc]
    for path, one in module.named_modules():
        # Plain attributes steer `forward` too. One whose text names an address is never found
        # again: that costs time, not truth.
        others = {key: x for key, x in vars(one).items() if key not in OWN_ATTRIBUTES}
        facts.append([path, type(one).__qualname__, one.training, sorted(others.items())])
    digest.update(repr(facts).encode())
    for source in _sources(module):
        digest.update(source)
    for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{path} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()[:32]


def _sources(module: nn.Module) -> list[bytes]:
    """The texts of the rooms and, for modules defined elsewhere, as in a test, of their classes."""
    package = Path(maxim_deploy.__file__).parent
    files = [path for room in ROOMS for path in sorted((package / room).rglob("*.py"))]
    files.append(package / "spec/architecture.py")
    strange = {
        type(one)
        for one in module.modules()
        if not type(one).__module__.startswith(("maxim_deploy.", "torch."))
    }
    classes = sorted(inspect.getsource(one) for one in strange)
    return [path.read_bytes() for path in files] + [text.encode() for text in classes]


def _forget_oldest(folder: Path) -> None:
    kept = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-KEPT_FILES]:
        path.unlink(missing_ok=True)
