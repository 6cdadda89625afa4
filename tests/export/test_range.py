"""What the GPU's form stores before it is normalised stays inside the range of float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.magnitudes import magnitudes, with_safe_range
from maxim_deploy.graph.precision.session import open_network
from maxim_deploy.graph.precision.simulated import simulated_in_float32
from maxim_deploy.parity.networks import traced_core
from maxim_deploy.spec.bundle import Bundle

PRODUCT = "stages/0/encoder/0/groups/steps/0/opening/MatMul_0"
WEIGHT = "stages.0.encoder.0.groups.steps.0.opening.weight"
INPUT = "stages.0.open_encoder.0.image."
PICTURE = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)


@pytest.fixture(scope="module")
def large(demo_bundle: Path) -> ir.Model:
    """The demo model, but for one raw product that reaches half a million.

    Its weights and its input are in range. The input is normalised there, so that a larger one
    makes the raw product larger, and nothing else.
    """
    core, _ = traced_core(Bundle.open(demo_bundle), "gpu")
    for name in ("weight", "bias"):
        scale(core, INPUT + name, 100)
    reached = magnitudes(core, [PICTURE])[product(core).outputs[0].name]
    scale(core, WEIGHT, 5e5 / reached)
    return core


def scale(model: ir.Model, name: str, factor: float) -> None:
    value = model.graph.initializers[name]
    value.const_value = ir.Tensor(value.const_value.numpy() * np.float32(factor), name=name)


def product(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.name == PRODUCT)


def test_a_raw_product_out_of_range_stays_float32(large: ir.Model) -> None:
    table = default_table("fp16", large.graph)
    seen = magnitudes(large, [PICTURE])
    assert seen[product(large).outputs[0].name] == pytest.approx(5e5, rel=0.01)
    assert product(large) not in table.islands(large.graph)
    safe = with_safe_range(table, large, seen)
    assert product(large) in safe.islands(large.graph)
    expected = open_network(large)(PICTURE)
    found, lost = (
        open_network(simulated_in_float32(low_precision(large, one)))(PICTURE)
        for one in (safe, table)
    )
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert not np.isfinite(lost).all()


def test_what_is_not_finite_in_float32_is_refused(large: ir.Model) -> None:
    picture = np.full((1, 3, 64, 64), np.nan, np.float32)
    with pytest.raises(ExportError, match="is not finite in float32 already"):
        magnitudes(large, [picture])
