"""Spandrel, also where its torchvision was built for another PyTorch than the one that is here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

_STAND_INS = torch.library.Library("torchvision", "FRAGMENT")


def load_spandrel() -> ModuleType:
    """The module, or a skip with the reason.

    The public index has torchvision for CUDA only. With PyTorch for the processor its compiled
    operators do not load, and importing it fails at the first two that it describes. Spandrel's
    networks of this kind use none of them, so declarations do.
    """
    found = importlib.util.find_spec("torchvision")
    if importlib.util.find_spec("spandrel") is None or found is None or found.origin is None:
        pytest.skip("pip install spandrel torchvision", allow_module_level=True)
    try:
        torch.ops.load_library(str(Path(found.origin).with_name("_C.so")))
    except OSError:
        for name in ("nms", "qnms"):
            _STAND_INS.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    import spandrel

    return spandrel
