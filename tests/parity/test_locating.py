"""Planted faults: where each is found, and which threshold lets it pass.

All are mistakes that nothing but numbers reveals.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from parity.networks import SMALL
from torch import nn
from torch.overrides import TorchFunctionMode

from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.export import FORMS, DeploymentMaxim
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.session import open_session
from maxim_deploy.graph.precision.simulated import simulated_in_float32
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.graph.precision.verify import verify_types
from maxim_deploy.model import Maxim
from maxim_deploy.parity.comparison import compare
from maxim_deploy.parity.inspected import inspect_graph, inspect_module, inspect_stage
from maxim_deploy.parity.locating import Located, PointError, locate, walk
from maxim_deploy.parity.networks import network_of_module, read_graph
from maxim_deploy.parity.plots import plot_growth
from maxim_deploy.parity.points import points_of
from maxim_deploy.parity.thresholds import THRESHOLDS
from maxim_deploy.spec.bundle import Bundle


class Calling(TorchFunctionMode):
    """While it lasts, calls of one function get other arguments."""

    def __init__(self, name: str, **changed: object) -> None:
        super().__init__()
        self.name, self.changed = name, changed

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = {**(kwargs or {})}
        if getattr(func, "__name__", "") == self.name:
            kwargs |= self.changed
        return func(*args, **kwargs)


def within(literal: Maxim, mode: TorchFunctionMode) -> Maxim:
    """The network, always run in a mode."""

    class Changed(Maxim):
        def forward(self, image):
            with mode:
                return super().forward(image)

    literal.__class__ = Changed
    return literal


def transposed_kernel(literal: Maxim) -> Maxim:
    kernel = literal.get_submodule("stage_0_global_block_0.input_proj")
    kernel.weight = nn.Parameter(kernel.weight.T.contiguous(), requires_grad=False)
    return literal


def wrong_epsilon(literal: Maxim) -> Maxim:
    for module in literal.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    return literal


def wrong_epsilon_once(literal: Maxim) -> Maxim:
    """One of the few norms of this network whose input varies little enough to matter alone."""
    literal.get_submodule(f"{LATE_GATE.replace('/', '.')}.LayerNorm_in").eps = 1e-5
    return literal


def exact_gelu(literal: Maxim) -> Maxim:
    return within(literal, Calling("gelu", approximate="none"))


def plain_resize(literal: Maxim) -> Maxim:
    return within(literal, Calling("interpolate", antialias=False))


FIRST_MIXER = "stage_0_encoder_block_0/SplitHeadMultiAxisGmlpLayer_0"
LATE_GATE = "stage_1_cross_gating_block_0/SplitHeadMultiAxisGating_y"

FAULTS: dict[Callable[[Maxim], Maxim], tuple[str, set[str]]] = {
    transposed_kernel: ("stage_0_global_block_0/input_proj", set()),
    wrong_epsilon: (FIRST_MIXER, {"fp16", "bf16"}),
    wrong_epsilon_once: (LATE_GATE, {"fp16", "bf16"}),
    exact_gelu: (FIRST_MIXER, {"fp16", "bf16"}),
    plain_resize: ("stage_0_cross_gating_block_2/Conv_0", set()),
}
"""Fault to the first point that departs, and the thresholds that let its picture pass."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_planted_fault(fault, literal: Maxim, sample, batch) -> None:
    where, passes = FAULTS[fault]
    right = DeploymentMaxim(literal)
    expected = network_of_module(right)(batch)[0].transpose(1, 2, 0)
    wrong = fault(literal)
    subjects = [
        inspect_module(module, SMALL, form) for module, form in ((wrong, "literal"), (right, "cpu"))
    ]
    for a, b in (subjects, subjects[::-1]):
        points = walk(a, b, batch)
        assert next(point.name for point in points if point.departs) == where
        before = points[: [point.name for point in points].index(where)]
        assert all(point.error < point.allowed for point in before)
    found = network_of_module(wrong)(batch)[0].transpose(1, 2, 0)
    comparison = compare(found, expected, batch[0].transpose(1, 2, 0))
    assert {
        name for name in ("fp32", "fp16", "bf16") if not THRESHOLDS[name].faults(comparison)
    } == passes, comparison


@pytest.mark.parametrize("form", FORMS)
def test_nothing_departs_where_nothing_is_wrong(form: str, literal: Maxim, batch) -> None:
    a = inspect_module(DeploymentMaxim(literal, FORMS[form]), SMALL, form)
    b = inspect_module(literal, SMALL, "literal")
    points = walk(a, b, batch)
    assert [point.name for point in points] == [point.name for point in points_of(SMALL)]
    assert not any(point.departs for point in points)
    assert max(point.error / point.allowed for point in points) < 0.6  # 1.7 of 4 seen elsewhere


def test_two_literal_networks_are_walked_module_by_module(literal: Maxim, batch) -> None:
    right = inspect_module(literal, SMALL, "literal")
    wrong = copy.deepcopy(literal)
    name = "stage_1_encoder_block_0.SplitHeadMultiAxisGmlpLayer_0.GridGmlpLayer.out_project"
    layer = wrong.get_submodule(name)
    layer.weight = nn.Parameter(layer.weight.T.contiguous(), requires_grad=False)
    points = walk(inspect_module(wrong, SMALL, "literal"), right, batch)
    assert next(p.name for p in points if p.departs) == name.replace(".", "/")
    assert points[-1].name == "restored"


@pytest.fixture(scope="module")
def full(demo_bundle: Path):
    bundle = Bundle.open(demo_bundle)
    graph = read_graph(demo_bundle / "fp32.tensor.onnx")
    return inspect_graph(graph, bundle.manifest.architecture, "cpu")


def without(island: str, model: ir.Model) -> tuple[ir.Model, PrecisionTable]:
    table = default_table("fp16")
    assert any(decision.pattern == island for decision in table.decisions)
    fewer = tuple(d for d in table.decisions if d.pattern != island)
    return low_precision(model, PrecisionTable(table.low, fewer)), table


@pytest.mark.parametrize(
    ("island", "where", "published"),
    [
        ("image", "Slice_0", None),
        (
            "spatial-mean",
            "stages/0/encoder/0/groups/steps/1/ReduceMean_0",
            "stage_0_encoder_block_0/channel_attention_block_10",
        ),
    ],
)
def test_a_removed_island(
    island: str, where: str, published: str | None, full, demo_bundle: Path, batch
) -> None:
    """Its error is no more than what float16 costs: the threshold accepts it, the types do not."""
    faulty, table = without(island, full.graph)
    architecture = Bundle.open(demo_bundle).manifest.architecture
    points = walk(inspect_graph(faulty, architecture, "cpu"), full, batch)
    first = next(point for point in points if point.departs)
    assert (first.name, first.published) == (where, published)
    found, expected = (
        open_session(model).run(None, {"image": batch})[0][0].transpose(1, 2, 0)
        for model in (simulated_in_float32(faulty), full.graph)
    )
    comparison = compare(found, expected, batch[0].transpose(1, 2, 0))
    assert not THRESHOLDS["fp16"].faults(comparison) and THRESHOLDS["fp32"].faults(comparison)
    with pytest.raises(ExportError, match="should be float32"):
        verify_types(faulty, table)


def test_the_stages_of_a_bundle_agree(demo_bundle: Path, sample) -> None:
    for a, b in (("deployment", "literal"), ("fp32", "literal"), ("fp16", "fp32")):
        located = locate(f"{demo_bundle}:{a}", f"{demo_bundle}:{b}", sample)
        assert located.first is None and len(located.points) > 40
        assert located.points[-1].error > 0  # different roundings: something was compared
        assert located.to_json()["passed"] is True


def test_a_graph_says_its_architecture(demo_bundle: Path, tmp_path: Path) -> None:
    """In keys of its own; one that an older version has written lies in a bundle that does."""
    architecture = Bundle.open(demo_bundle).manifest.architecture
    alone, bundle = tmp_path / "alone", tmp_path / "bundle"
    for folder, names in ((alone, ["fp32.weights"]), (bundle, ["fp32.weights", "manifest.json"])):
        folder.mkdir()
        for name in names:
            shutil.copyfile(demo_bundle / name, folder / name)
    model = ir.load(demo_bundle / "fp32.tensor.onnx")
    ir.save(model, alone / "new.onnx")
    assert inspect_stage(str(alone / "new.onnx")).architecture == architecture
    for key in [*model.metadata_props]:
        if key.startswith("architecture."):
            del model.metadata_props[key]
    ir.save(model, bundle / "old.onnx")
    ir.save(model, alone / "old.onnx")
    assert inspect_stage(str(bundle / "old.onnx")).architecture == architecture
    with pytest.raises(ExportError, match=r"old.onnx' \| lacks its 'features'; export it"):
        inspect_stage(str(alone / "old.onnx"))


def test_other_networks_and_stages_without_tensors(demo_bundle: Path, literal, sample, batch):
    with pytest.raises(UsageError, match="onnxruntime' has no tensors to look at"):
        locate(f"{demo_bundle}:onnxruntime", f"{demo_bundle}:literal", sample)
    two = inspect_module(literal, SMALL, "literal")
    one = inspect_module(torch.nn.Identity(), SMALL, "cpu")
    one.probe.by_point.clear()
    one.probe.module.dummy = nn.Parameter(torch.zeros(1))
    with pytest.raises(UsageError, match="nothing was compared"):
        walk(one, two, batch)


def test_nan_departs() -> None:
    points = [PointError("a", 1e-7, 1e-6), PointError("b", math.nan, 1e-6), PointError("c", 1, 2)]
    located = Located("A", "B", "picture", points)
    assert located.first == points[1] and located.last_agreeing == points[0]
    record = located.to_json()
    assert record["first_departure"] == "b" and record["last_agreeing"] == "a"
    second = {"name": "b", "error": None, "allowed": 1e-6, "published": None, "departs": True}
    assert record["points"][1] == second


def test_plot(tmp_path: Path) -> None:
    from PIL import Image

    points = [PointError(f"layer {k}", 10.0 ** (k - 9) if k else 0, 1e-6) for k in range(40)]
    plot_growth(Located("A", "B", "picture", points), tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    red = (pixels[..., 0] > 180) & (pixels[..., 1:] < 140).all(axis=2)
    assert red.any() and pixels.shape[1] == 1440  # where the first one departs
