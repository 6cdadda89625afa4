"""A small complete set of weights, and the same as a published file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints.samples import TINY

from maxim_deploy.checkpoints import parameter_shapes


@pytest.fixture(scope="session")
def tiny_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        path: rng.standard_normal(shape, dtype=np.float32)
        for path, shape in parameter_shapes(TINY).items()
    }


@pytest.fixture
def weights(tiny_weights) -> dict[str, np.ndarray]:
    """A dict to spoil; the arrays are shared, so replace them and leave their values alone."""
    return dict(tiny_weights)


@pytest.fixture
def save_npz(tmp_path):
    """Write arrays under `opt/target/` as a published file would hold them."""

    def save(arrays: dict[str, np.ndarray], name: str = "weights.npz") -> Path:
        np.savez(tmp_path / name, **{f"opt/target/{path}": a for path, a in arrays.items()})
        return tmp_path / name

    return save
