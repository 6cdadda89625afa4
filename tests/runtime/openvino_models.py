"""Models that OpenVINO compiles in tests."""

from __future__ import annotations

from typing import Any

from maxim_deploy.machine import openvino as library

SETTINGS = library.settings_for("fp32", 2)


def compiled(core: Any, model: Any, shape: tuple[int, ...]) -> Any:
    """A copy of an `openvino.Model` for images `[N, 3, H, W]` of a shape, compiled."""
    of_shape = model.clone()
    of_shape.reshape(list(shape))
    return core.compile_model(of_shape, library.DEVICE, SETTINGS)
