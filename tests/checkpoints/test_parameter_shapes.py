"""The outline against the measured lists, and the way back from it."""

from __future__ import annotations

import lzma
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxim_deploy.checkpoints import architecture_from_shapes, parameter_shapes
from maxim_deploy.errors import CheckpointError
from maxim_deploy.spec.architecture import VARIANTS, Architecture

# One line per variant and parameter, "S-1 path 3x3x3x32", measured from the reference.
LIST = Path(__file__).parent / "data" / "parameters.txt.xz"

FEATURES_KEY = "stage_0_input_conv_0/bias"


def measured(variant: str) -> dict[str, tuple[int, ...]]:
    rows = (line.split() for line in lzma.decompress(LIST.read_bytes()).decode().splitlines())
    return {path: tuple(map(int, shape.split("x"))) for v, path, shape in rows if v == variant}


@pytest.mark.parametrize(
    ("variant", "leaves", "values"),
    [("S-1", 766, 6_139_561), ("S-2", 1_760, 14_176_178), ("S-3", 2_754, 22_212_795)],
)
def test_shapes_are_the_published_ones(variant, leaves, values):
    shapes = parameter_shapes(VARIANTS[variant])
    assert shapes == measured(variant)
    assert (len(shapes), sum(map(math.prod, shapes.values()))) == (leaves, values)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Architecture,
        features=st.integers(1, 24).map(lambda n: 4 * n),
        stages=st.integers(1, 4),
        groups=st.integers(1, 4),
        bottleneck_blocks=st.integers(1, 4),
    )
)
def test_architecture_is_read_back(architecture):
    assert architecture_from_shapes(parameter_shapes(architecture)) == architecture


def test_one_lost_parameter_does_not_change_the_architecture():
    architecture = Architecture(4, stages=2, groups=1, bottleneck_blocks=1)
    shapes = parameter_shapes(architecture)
    for lost in shapes.keys() - {FEATURES_KEY}:
        rest = {path: shape for path, shape in shapes.items() if path != lost}
        assert architecture_from_shapes(rest) == architecture


def test_a_stray_stage_is_not_counted():
    shapes = {**parameter_shapes(VARIANTS["S-1"]), "stage_7_input_conv_0/bias": (32,)}
    assert architecture_from_shapes(shapes).stages == 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop(FEATURES_KEY), [FEATURES_KEY, "number of features", "439 found"]),
        (lambda s: s.update({FEATURES_KEY: ()}), [FEATURES_KEY, "shape ()", "(features,)"]),
        (lambda s: s.update({FEATURES_KEY: (6,)}), [FEATURES_KEY, "multiple of 4, not 6"]),
        (
            lambda s: [s.pop(p) for p in list(s) if "_global_block_" in p],
            ["no parameter begins with 'stage_0_global_block_0/'"],
        ),
    ],
)
def test_what_cannot_be_read_off_is_named(spoil, words):
    shapes = parameter_shapes(Architecture(4, 1, 1, 1))
    spoil(shapes)
    with pytest.raises(CheckpointError) as caught:
        architecture_from_shapes(shapes)
    for word in words:
        assert word in str(caught.value)
