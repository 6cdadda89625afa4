"""Names and axes between published arrays and PyTorch, checked by computing with both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maxim_deploy.checkpoints import from_torch, parameter_shapes, to_torch, torch_name
from maxim_deploy.spec.architecture import Architecture

torch = pytest.importorskip("torch")

UNITS = Path(__file__).parents[1] / "data" / "units.npz"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("stage_0_input_conv_0/kernel", "stage_0_input_conv_0.weight"),
        ("a/LayerNorm/scale", "a.LayerNorm.weight"),
        ("a/LayerNorm/bias", "a.LayerNorm.bias"),
    ],
)
def test_names(path, name):
    assert torch_name(path) == name


def test_names_stay_distinct_and_arrays_come_back():
    rng = np.random.default_rng(1)
    shapes = parameter_shapes(Architecture(4, 2, 1, 1))
    assert len({torch_name(path) for path in shapes}) == len(shapes)
    for path, shape in shapes.items():
        array = rng.standard_normal(shape, dtype=np.float32)
        moved = to_torch(path, array)
        back = from_torch(path, moved, shape)
        assert moved.flags.c_contiguous
        assert back.flags.c_contiguous
        np.testing.assert_array_equal(back, array, strict=True)


def test_a_1x1_stored_as_convolution_is_accepted():
    kernel = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    stored = to_torch("a/Conv_0/kernel", kernel)[:, :, None, None]
    np.testing.assert_array_equal(from_torch("a/Conv_0/kernel", stored, kernel.shape), kernel)


def test_transposed_convolution_computes_the_reference():
    with np.load(UNITS) as units:
        x, y, kernel, bias = (
            units[f"conv_transpose.{key}"] for key in ("x", "y", "param/kernel", "param/bias")
        )
    weight = torch.from_numpy(to_torch("block/ConvTranspose_0/kernel", kernel))
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    ours = torch.nn.functional.conv_transpose2d(image, weight, torch.from_numpy(bias), stride=2)
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), y, atol=1e-5)


@pytest.mark.parametrize("side", [3, 4])
def test_convolution_multiplies_the_same_pairs(side):
    rng = np.random.default_rng(2)
    patch = rng.standard_normal((side, side, 5), dtype=np.float32)
    kernel = rng.standard_normal((side, side, 5, 2), dtype=np.float32)
    weight = torch.from_numpy(to_torch("block/Conv_1/kernel", kernel))
    ours = torch.nn.functional.conv2d(torch.from_numpy(patch).permute(2, 0, 1)[None], weight)
    expected = np.einsum("hwi,hwio->o", patch, kernel)
    np.testing.assert_allclose(ours.flatten().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 2), (1, 1, 5, 2)])
def test_channel_matrices_become_linear_weights(shape):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 5), dtype=np.float32)
    kernel = rng.standard_normal(shape, dtype=np.float32)
    weight = torch.from_numpy(to_torch("block/Conv_0/kernel", kernel))
    ours = torch.nn.functional.linear(torch.from_numpy(x), weight)
    np.testing.assert_allclose(ours.numpy(), x @ kernel.reshape(5, 2), rtol=1e-4, atol=1e-5)
