"""Check at the end of an export that graphs compute what the network computes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from maxim_deploy._optional import require
from maxim_deploy.errors import ExportError
from maxim_deploy.imaging import Padding, from_unit, to_unit
from maxim_deploy.imaging.known_picture import known_picture
from maxim_deploy.imaging.pixels import to_batch
from maxim_deploy.machine.processors import threads_to_ask_for
from maxim_deploy.spec.precision import FULL, PRECISIONS

UNSEEN_SHAPES = ((1, 3, 64, 64), (3, 3, 128, 64), (1, 3, 64, 256))
"""The smallest size, a tall batch, and a wide one. None has the example's batch, height or
width."""

IMAGE_SHAPES = ((1, 1, 1, 3), (1, 37, 90, 3), (2, 64, 130, 3))
"""Sides of one pixel, odd sides, multiples of 64, and a batch."""

TUNED_ERROR = 5e-6
"""Largest difference allowed between a graph and its tuned version. The demo model had 5.4e-7."""

MAX_ERROR = 1e-5
"""Largest float32 difference allowed, on pictures in [0, 1]. S-1 had 1e-6, and S-3 2e-6. The
smallest known fault (LayerNorm's epsilon) causes 6e-5."""

ROUNDING_FACTOR = 4
"""Networks of unusual sizes may round worse (four channels make a poor variance). They are allowed
this multiple of PyTorch's own difference from float64."""


def verify_tensor_form(module: nn.Module, graph: Path) -> list[dict[str, Any]]:
    """Compare ONNX Runtime (CPU) with PyTorch at sizes that the tracer did not see.

    Returns:
        For each size `shape`, `max_error` and `mean_error` (absolute, of values in [0, 1]), and
        `rounding`, the largest difference between PyTorch in float32 and in float64.

    Raises:
        ExportError: a value is not finite, or differs by more than `MAX_ERROR` and more than
            `ROUNDING_FACTOR` times the rounding.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    # PyTorch's own difference from float64 distinguishes poor rounding from a wrong graph.
    session = _session(graph)
    exact_module = copy.deepcopy(module).double()
    records = []
    for shape in UNSEEN_SHAPES:
        image = np.random.default_rng(0).random(shape, np.float32)
        tensor = torch.from_numpy(image)
        with torch.inference_mode():
            expected = module(tensor).numpy()
            exact = exact_module(tensor.double()).numpy()
        rounding = float(np.abs(expected - exact).max())
        found = session.run(None, {"image": image})[0]
        records.append(_difference(found, expected, rounding, graph.name))
    return records


def known_result(graph: Path) -> bytes:
    """ONNX Runtime's (CPU) result for the known picture, a reference for other libraries.

    Returns:
        Float32 `[1, 3, 64, 64]`, little-endian.
    """
    restored = _session(graph).run(None, {"image": known_picture()})[0]
    return bytes(restored.astype("<f4").tobytes())


def verify_image_form(tensor: Path, image: Path) -> list[dict[str, Any]]:
    """Compare a graph's image form with its tensor form inside the published padding in NumPy.

    Returns:
        For each shape `shape` and `max_levels`, the largest difference in 8-bit levels.

    Raises:
        ExportError: a pixel differs by more than one level. Rounding alone can cause one.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    sessions = [_session(path) for path in (tensor, image)]
    records = []
    for shape in IMAGE_SHAPES:
        picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        found = sessions[1].run(None, {"image": picture})[0]
        expected = np.stack([_restored(sessions[0], one) for one in picture])
        if found.shape != expected.shape:
            raise ExportError(f"{image.name} returns {found.shape} for {shape}")
        levels = int(np.abs(found.astype(np.int16) - expected).max())
        if levels > 1:
            raise ExportError(
                f"{image.name} differs from {tensor.name} by {levels} levels of 255 at {shape}"
            )
        records.append({"shape": list(shape), "max_levels": levels})
    return records


def verify_tuned_form(plain: Path, tuned: Path, io: str, rounding: float) -> list[dict[str, Any]]:
    """Compare a graph that was rewritten for ONNX Runtime with its plain graph.

    Args:
        plain: the plain graph.
        tuned: the rewritten graph.
        io: form of both.
        rounding: largest difference between PyTorch in float32 and float64 for this network; 0 if
            not measured.

    Returns:
        For each shape `shape`, and `max_error` (tensor form, absolute, of values in [0, 1]) or
        `max_levels` (image form, in 8-bit levels).

    Raises:
        ExportError: a value of the tensor form differs by more than `TUNED_ERROR` and more than
            `ROUNDING_FACTOR` times the rounding, or one of the image form by more than one level.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    sessions, random = [_session(path) for path in (plain, tuned)], np.random.default_rng(0)
    allowed = 1.0 if io == "image" else max(TUNED_ERROR, ROUNDING_FACTOR * rounding)
    measure = "max_levels" if io == "image" else "max_error"
    records = []
    for shape in IMAGE_SHAPES if io == "image" else UNSEEN_SHAPES:
        image = random.random(shape, np.float32)
        image = (image * 255).astype(np.uint8) if io == "image" else image
        expected, found = (session.run(None, {"image": image})[0] for session in sessions)
        error = float(np.abs(found.astype(np.float64) - expected).max())
        if not error <= allowed:  # also true for NaN
            raise ExportError(
                f"{tuned.name} differs from {plain.name} by {error:.2g} at {shape} ({measure}); at "
                f"most {allowed:.2g} is allowed"
            )
        kept = int(error) if io == "image" else error
        records.append({"shape": list(shape), measure: kept})
    return records


def verify_planar_form(tensor: Path, planar: Path, io_type: str) -> list[dict[str, Any]]:
    """Compare a graph's planar form with its tensor form inside the published padding in NumPy.

    Args:
        tensor: the graph of the tensor form.
        planar: the graph of the planar form.
        io_type: type of its input and output, a precision's name.

    Returns:
        For each size `shape` and `max_error`, absolute, of values in [0, 1].

    Raises:
        ExportError: a value differs by more than `MAX_ERROR`; with float16, its rounding is added
            to the limit.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    sessions = [_session(path) for path in (tensor, planar)]
    precision = PRECISIONS[io_type]
    allowed = MAX_ERROR + (0.0 if io_type == FULL else precision.half_step)
    records = []
    for batch, height, width, _ in IMAGE_SHAPES:
        image = np.random.default_rng(0).random((batch, height, width, 3), np.float32)
        image = image.astype(precision.type)
        found = sessions[1].run(None, {"input": np.stack([to_batch(one)[0] for one in image])})[0]
        expected = np.stack([_planes(sessions[0], one.astype(np.float32)) for one in image])
        if found.shape != expected.shape or found.dtype != image.dtype:
            raise ExportError(
                f"{planar.name} returns {found.dtype} {found.shape} for {image.shape}"
            )
        error = float(np.abs(found.astype(np.float32) - expected).max())
        if not error <= allowed:  # also true for NaN
            raise ExportError(
                f"{planar.name} differs from {tensor.name} by {error:.2g} at {image.shape}; at "
                f"most {allowed:.2g} is allowed"
            )
        records.append({"shape": [batch, 3, height, width], "max_error": error})
    return records


def _planes(session: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run the tensor form on a picture `[H, W, 3]`. Returns `[3, H, W]` clipped to [0, 1]."""
    padding = Padding(*image.shape[:2])
    restored = session.run(None, {"image": to_batch(padding.apply(image))})[0]
    planes: NDArray[np.float32] = restored[0][:, *padding.crop].clip(0, 1)
    return planes


def _restored(session: Any, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Run the tensor form on a picture `[H, W, 3]`."""
    padding = Padding(*picture.shape[:2])
    restored = session.run(None, {"image": to_batch(to_unit(padding.apply(picture)))})[0]
    return from_unit(padding.undo(restored[0].transpose(1, 2, 0)), picture.dtype)


def _session(graph: Path) -> Any:
    ort = require("onnxruntime", "cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads_to_ask_for()
    options.log_severity_level = 3  # errors
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _difference(
    found: NDArray[np.float32], expected: NDArray[np.float32], rounding: float, name: str
) -> dict[str, Any]:
    size = "x".join(map(str, expected.shape))
    if found.shape != expected.shape:
        raise ExportError(f"{name} returns {found.shape} for an input of {size}")
    allowed = max(MAX_ERROR, ROUNDING_FACTOR * rounding)
    error = np.abs(found.astype(np.float64) - expected)
    if not error.max() <= allowed:  # also true for NaN
        raise ExportError(
            f"{name} differs from PyTorch by {error.max():.2g} at {size}; at most {allowed:.2g} is "
            "allowed. The graph was not kept"
        )
    return {
        "shape": list(expected.shape),
        "max_error": float(error.max()),
        "mean_error": float(error.mean()),
        "rounding": rounding,
    }
