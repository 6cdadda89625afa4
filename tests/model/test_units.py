"""Each primitive and block against its own measured reference, so a fault is found where it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxim_deploy.checkpoints import to_torch, torch_name
from maxim_deploy.model import attention, gating, gmlp, primitives
from maxim_deploy.model.network import UpSampleRatio

UNITS = reference.load("units")
TOLERANCE = 2e-6  # single modules on values of order 1; LayerNorm's epsilon alone costs more


def unit(name: str) -> dict[str, np.ndarray]:
    return {
        key.removeprefix(f"{name}."): a for key, a in UNITS.items() if key.startswith(f"{name}.")
    }


def with_parameters(module: nn.Module, data: dict[str, np.ndarray], prefix: str = "") -> nn.Module:
    """Load a unit's parameters; `prefix` names the leaves of a unit that is a single layer."""
    state = {}
    for key, array in data.items():
        if key.startswith("param/"):
            path = prefix + key.removeprefix("param/")
            state[torch_name(path).removeprefix(prefix.replace("/", "."))] = torch.from_numpy(
                to_torch(path, array)
            )
    module.load_state_dict(state, strict=True)
    return module.eval()


def inputs(data: dict[str, np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(data[key]) for key in ("x", "x0", "x1") if key in data]


def assert_agrees(found: object, data: dict[str, np.ndarray], tolerance: float = TOLERANCE) -> None:
    expected = [data[key] for key in ("y", "y0", "y1") if key in data]
    results = found if isinstance(found, tuple) else (found,)
    assert len(results) == len(expected) > 0
    for result, target in zip(results, expected, strict=True):
        assert result.shape == target.shape
        np.testing.assert_allclose(result.detach().numpy(), target, rtol=0, atol=tolerance)


MODULES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "conv_transpose": (lambda: primitives.ConvUp(5, 6), "ConvTranspose_0/"),
    "conv_down": (lambda: primitives.ConvDown(5, 6), "Conv_1/"),
    "conv3x3": (lambda: primitives.Conv3x3(5, 6), "Conv_0/"),
    "conv1x1": (lambda: nn.Linear(5, 6), "Conv_0/"),
    "dense": (lambda: nn.Linear(5, 6), "Dense_0/"),
    "block_gating_unit": (lambda: gmlp.GatingUnit(4, 16, gmlp.BLOCK_AXIS), ""),
    "grid_gating_unit": (lambda: gmlp.GatingUnit(4, 4, gmlp.GRID_AXIS), ""),
    "block_gmlp": (lambda: gmlp.BlockGmlpLayer(4, 4), ""),
    "grid_gmlp": (lambda: gmlp.GridGmlpLayer(4, 2), ""),
    "mab": (lambda: gmlp.MultiAxisGmlp(4, block=4, grid=2), ""),
    "gating_weights": (lambda: gating.SpatialGatingWeights(4, block=4, grid=2), ""),
    "cross_gating": (lambda: gating.CrossGating(4, 4, 2, x_channels=6), ""),
    "cross_gating_up": (lambda: gating.CrossGating(4, 4, 2, x_channels=6, upsample_from=8), ""),
    "ca": (lambda: attention.ChannelAttention(8), ""),
    "rcab": (lambda: attention.ResidualChannelAttention(8), ""),
    "rdcab": (lambda: attention.ResidualDenseChannelAttention(8), ""),
    "sam": (lambda: attention.SupervisedAttention(8), ""),
    "upsample_ratio_2": (lambda: UpSampleRatio(3, 6, source=1, target=0), ""),
    "upsample_ratio_quarter": (lambda: UpSampleRatio(3, 6, source=0, target=2), ""),
}


@pytest.mark.parametrize("name", MODULES)
def test_module(name: str) -> None:
    make, prefix = MODULES[name]
    data = unit(name)
    assert_agrees(with_parameters(make(), data, prefix)(*inputs(data)), data)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "bilinear_up2": lambda x: primitives.resize(x, 1, 0),
    "bilinear_up4": lambda x: primitives.resize(x, 2, 0),
    "bilinear_down2": lambda x: primitives.resize(x, 0, 1),
    "bilinear_down4": lambda x: primitives.resize(x, 0, 2),
    "bilinear_down4_small": lambda x: primitives.resize(x, 0, 2),
    "nearest_down2": lambda x: primitives.nearest_shrink(x, 2),
    "nearest_down4": lambda x: primitives.nearest_shrink(x, 4),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x: F.leaky_relu(x, primitives.LEAKY_SLOPE),
    "sigmoid": torch.sigmoid,
    "block_index": lambda x: gmlp.Partition.into_blocks(x, 4).split(x),
    "grid_index": lambda x: gmlp.Partition.into_grid(x, 2).split(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name: str) -> None:
    data = unit(name)
    assert_agrees(FUNCTIONS[name](*inputs(data)), data)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_resize_weights(direction: str, factor: int) -> None:
    matrix = unit(f"bilinear_matrix_{direction}{factor}")["matrix"]
    levels = (factor // 2, 0) if direction == "up" else (0, factor // 2)
    # One column per source sample; the other axis is constant, so it does not matter.
    basis = torch.eye(16).reshape(16, 16, 1, 1).expand(16, 16, 16, 1)
    weights = primitives.resize(basis, *levels)[:, :, 0, 0].T
    np.testing.assert_allclose(weights.numpy(), matrix, rtol=0, atol=1e-6)


def test_layer_norm() -> None:
    """Rows: plain, deviation 1e-2 and 1e-3 (where the epsilon counts), constant, offset, large."""
    data = unit("layer_norm")
    found = with_parameters(primitives.LayerNorm(32), data, "LayerNorm/")(*inputs(data)).detach()
    offset_row = 4  # the reference takes its variance from squares, and loses digits at offset 30
    error = np.abs(found.numpy() - data["y"]).max(axis=1)
    assert np.delete(error, offset_row).max() <= TOLERANCE
    assert error[offset_row] <= 2e-4

    x = data["x"][offset_row].astype(np.float64)
    exact = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    exact = exact * data["param/scale"] + data["param/bias"]
    assert np.abs(found[offset_row].numpy() - exact).max() <= TOLERANCE


def test_partitions_are_undone() -> None:
    x = torch.arange(2 * 8 * 12 * 3.0).reshape(2, 8, 12, 3)
    for partition in (gmlp.Partition.into_blocks(x, 4), gmlp.Partition.into_grid(x, 4)):
        assert torch.equal(partition.merge(partition.split(x)), x)


def test_every_unit_is_used() -> None:
    names = {key.split(".")[0] for key in UNITS}
    matrices = {name for name in names if name.startswith("bilinear_matrix")}
    assert names == {*MODULES, *FUNCTIONS, *matrices, "layer_norm"}
