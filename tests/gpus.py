"""A GPU that is not here, as the machine's facts name it."""

from __future__ import annotations

from typing import Any

import pytest

from maxim_deploy.machine.gpu import Gpu, find_gpu

L4 = Gpu("NVIDIA L4", "8.9", 24 * 10**9, "13.0")


def need_gpus(number: int, library: str) -> None:
    """Skip a test where there are fewer GPUs, or the engine library is not installed."""
    if find_gpu(number - 1) is None:
        pytest.skip(f"needs {number} NVIDIA GPU{'s' if number > 1 else ''}")
    pytest.importorskip(library.replace("-", "_"))


def torch_on_gpu() -> Any:
    """The module torch; skips a test where it has no CUDA."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    return torch
