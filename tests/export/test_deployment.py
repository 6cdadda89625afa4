"""The deployment form equals the literal network, and every rewrite does what it says."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import reference
import torch
import torch.nn.functional as F
import traces
from onnxscript import optimizer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.export import tracing
from maxim_deploy.export.deployment import FORMS as DEPLOYMENT_FORMS
from maxim_deploy.export.deployment import REWRITES, DeploymentMaxim, Rewrites, algebra
from maxim_deploy.export.deployment.algebra import Affine, Kernel
from maxim_deploy.export.deployment.mixing import SpatialMix
from maxim_deploy.export.deployment.modules import Enlargement, Size
from maxim_deploy.export.deployment.resampling import Enlarge, FromAbove, Shrink
from maxim_deploy.export.tracing import EXAMPLE_SHAPE, onnx_from_module
from maxim_deploy.model import Maxim, gmlp, module_from_checkpoint, primitives
from maxim_deploy.spec.architecture import MULTIPLE_OF, Architecture

RELATIVE = 1e-10  # float64; the rewrites alone cost 1e-14
FLOAT32 = 3e-5  # of values in [0, 1]; 2e-6 seen

TINY = Architecture(features=4, stages=1, groups=1, bottleneck_blocks=1)
TWO = Architecture(features=8, stages=2, groups=1, bottleneck_blocks=1)
THREE = Architecture(features=8, stages=3, groups=1, bottleneck_blocks=1)
DEEP = Architecture(features=8, stages=2, groups=2, bottleneck_blocks=2)

SMALLEST, WIDE, TALL, BATCH = (1, 64, 64), (1, 64, 192), (1, 128, 64), (2, 64, 128)


def all_but(name: str) -> Rewrites:
    return replace(Rewrites(), **{name: False})


CPU = tuple(name for name in REWRITES if getattr(Rewrites(), name))
GPU = tuple(name for name in REWRITES if name not in CPU)
"""Rewrites that the GPU's form has beside those of the CPU's."""

COUNTED = {
    "all": Rewrites(),
    "none": Rewrites.only(),
    **{f"only {name}": Rewrites.only(name) for name in CPU},
    **{f"without {name}": all_but(name) for name in CPU},
}
"""What these ask for follows from one account of the blocks, see `expected_counts`."""

FORMS = {
    **COUNTED,
    **{f"only {name}": Rewrites.only(name) for name in GPU},
    "gpu": DEPLOYMENT_FORMS["gpu"],
    **{f"gpu without {n}": replace(DEPLOYMENT_FORMS["gpu"], **{n: False}) for n in REWRITES},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose more than they gain by threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@functools.cache
def literal(architecture: Architecture) -> Maxim:
    return module_from_checkpoint(reference.random_checkpoint(architecture)).double()


def picture(batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)


@functools.cache
def expected(architecture: Architecture, shape: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """The last stage's images, full size first."""
    with torch.no_grad():
        return tuple(reversed(literal(architecture).all_outputs(picture(*shape))[-1]))


def assert_equals_literal(
    architecture: Architecture, rewrites: Rewrites, *shapes: tuple[int, int, int]
) -> None:
    """Compares what the network adds to its input: the picture itself would hide an error."""
    module = DeploymentMaxim(literal(architecture), rewrites)
    for shape in shapes:
        image = picture(*shape)
        targets = expected(architecture, shape)
        found = module(image)
        results = (found,) if isinstance(found, Tensor) else found
        assert len(results) == (1 if rewrites.last_output_only else 3)
        pyramid = [image, *(image[:, :, f // 2 :: f, f // 2 :: f] for f in (2, 4))]
        for result, target, source in zip(results, targets, pyramid, strict=False):
            assert_close(result - source, target - source)


def assert_close(found: Tensor, target: Tensor, relative: float = RELATIVE) -> None:
    assert found.shape == target.shape and found.dtype == target.dtype
    error, scale = (found - target).abs().max().item(), target.abs().max().item()
    assert error <= relative * scale, f"{error:.2g} of {scale:.2g}"


# ------------------------------------------------------------------ the whole network


@pytest.mark.parametrize("form", FORMS)
def test_one_stage_equals_the_literal(form: str) -> None:
    assert_equals_literal(TINY, FORMS[form], SMALLEST, WIDE, TALL, BATCH)


@pytest.mark.parametrize("form", FORMS)
def test_two_stages_equal_the_literal(form: str) -> None:
    assert_equals_literal(TWO, FORMS[form], SMALLEST)


@pytest.mark.parametrize("form", ["all", "none", "gpu"])
def test_three_stages_equal_the_literal(form: str) -> None:
    assert_equals_literal(THREE, FORMS[form], SMALLEST, WIDE)


@pytest.mark.parametrize("form", ["all", "none", "gpu"])
def test_several_groups_and_bottleneck_blocks_equal_the_literal(form: str) -> None:
    assert_equals_literal(DEEP, FORMS[form], TALL, BATCH)


@pytest.mark.parametrize("seed", range(16))
def test_any_set_of_rewrites_equals_the_literal(seed: int) -> None:
    names = random.Random(seed).sample(REWRITES, k=2 + seed % 8)
    assert_equals_literal(TINY, Rewrites.only(*names), BATCH)


def test_the_literal_is_left_as_it_was() -> None:
    network = module_from_checkpoint(reference.random_checkpoint(TINY)).requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    module = DeploymentMaxim(network)
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("variant", ["S-1", "S-2"])
def test_float32_agrees_with_the_reference(variant: str, record_property) -> None:
    module = DeploymentMaxim(module_from_checkpoint(reference.checkpoint(variant)))
    errors = {}
    for case in reference.CASES[variant]:
        data = reference.load(case)
        found = module(torch.from_numpy(reference.network_input(data)))
        errors[case] = np.abs(found.permute(0, 2, 3, 1).numpy() - data["output"]).max()
    record_property("max_errors", errors)
    assert max(errors.values()) <= FLOAT32, errors


@pytest.mark.parametrize("size", [(32, 64), (64, 96), (65, 64), (100, 128)])
def test_sides_that_are_not_multiples_of_64_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=rf"multiples of 64, not {size[0]}x{size[1]}"):
        DeploymentMaxim(literal(TINY))(picture(1, *size))


@pytest.mark.parametrize(("factor", "size"), [(2, (5, 6)), (2, (2, 8)), (4, (8, 4)), (4, (8, 10))])
def test_sides_that_cannot_be_shrunk_are_refused(factor: int, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=rf"shrinking by {factor} .*not {size[0]}x{size[1]}"):
        Shrink(factor, Rewrites())(torch.zeros(1, 1, *size))


@pytest.mark.parametrize(
    ("fold", "layer"),
    [
        (algebra.Affine.of, torch.nn.Linear(2, 2, bias=False)),
        (algebra.Affine.of, torch.nn.Conv2d(2, 2, 1)),
        (algebra.Kernel.of, torch.nn.Conv2d(2, 2, 3, groups=2)),
        (algebra.Kernel.of, torch.nn.Linear(2, 2)),
    ],
)
def test_layers_that_cannot_be_folded_are_refused(fold, layer) -> None:
    with pytest.raises(ExportError, match=r"cannot fold .*: expected a"):
        fold(layer)


# ------------------------------------------------------------------ each rewrite fires


class Calls(TorchFunctionMode):
    """Counts what a module asks PyTorch for: `counts` by name, and `multiply_adds` of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.multiply_adds = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.__name__.strip("_").removeprefix("r")  # 1 + x is `__radd__`
        if name == "layer_norm":
            self.counts["norm_in_blocks"] += args[0].ndim == 3
            name = "plain_norm" if kwargs["weight"] is None else "scaled_norm"
        elif name == "interpolate" and kwargs["antialias"]:
            name = "antialiased"
        elif name in ("matmul", "addmm"):
            left, right = args[-2:]
            if isinstance(right, torch.nn.Parameter):
                self.multiply_adds += left.shape[0] * left.shape[1] * right.shape[1]
            else:
                name = f"spatial_{name}"
        elif name == "conv2d" and args[1].shape[2:] == (1, 1):
            self.multiply_adds += args[0][:, 0].numel() * args[1].numel()
        self.counts[name] += 1
        return function(*args, **kwargs)


@functools.cache
def calls(architecture: Architecture, rewrites: Rewrites) -> Calls:
    module, image = DeploymentMaxim(literal(architecture), rewrites), picture(*SMALLEST)
    with Calls() as counted:
        module(image)
    return counted


def expected_counts(architecture: Architecture, on: Rewrites) -> dict[str, int]:
    """What a form asks for, counted by hand from the paper's blocks.

    A stage has three encoder and three decoder blocks, three cross gatings of skips and, from the
    second on, six more: with the stage before at each level's input and behind each encoder.
    """
    stages, later = architecture.stages, architecture.stages - 1
    blocks = (6 + architecture.bottleneck_blocks) * stages
    multi_axis = blocks * architecture.groups
    rcab = 6 * stages * architecture.groups
    rdcab = multi_axis - rcab
    cross = 3 * stages + 6 * later
    weights = 2 * cross
    halves = 3 * multi_axis + weights
    mixes = 2 * multi_axis + 2 * weights
    outputs = 1 if on.last_output_only else 3
    folded, separate = on.folded_chains, on.separate_halves

    gelus = halves * (2 if separate else 1) + 2 * cross + rdcab
    joins = (4 if separate else 1) if on.spread_shortcuts else 2 + (2 if separate else 1)
    products = (
        halves * (2 if separate else 1)
        + joins * multi_axis
        + (2 if separate else 1) * weights
        + 4 * cross
        + 2 * rdcab
        + 2 * (rcab + rdcab)  # channel attention
        + 6 * stages  # openings of skips and decoders: the own level
        + 5 * stages  # enlargements, the deepest one shared
        + architecture.bottleneck_blocks * stages
        + 12 * later  # attended features, both inputs of the encoders' gates, encoder openings
    )
    if folded:
        products -= stages  # the bottleneck's first opening
    else:
        products += (3 + 6) * stages  # behind the gates, on the concatenations
        products += 3 + 3 * later  # openings of the first encoders, behind the image
    # Across the grid the product is one matrix, which Gemm takes with its bias.
    spatial = mixes // 2 if on.gemms and on.left_matrices else mixes
    adds = (
        multi_axis * (1 if on.spread_shortcuts else 3)
        + (0 if on.folded_norms else 2 * multi_axis)
        + spatial
        + rcab * (1 if on.shared_layouts else 2)
        + rdcab
        + 3 * cross
        + blocks
        + ((3 + 6) * stages + 2 if folded else 0)  # skips, decoders, the first encoders
        + outputs
        + (6 + 3) * later  # supervised attention, encoder plus decoder feature
        + (0 if on.gemms else products)
        + (0 if on.single_gelu else 2 * gelus)
    )
    foldable_norms = 3 * multi_axis + rdcab + 2 * cross + weights
    other_norms = 2 * multi_axis + rcab  # before a spatial matrix or a padded convolution
    return {
        "addmm": products if on.gemms else 0,
        "matmul": 0 if on.gemms else products,
        "spatial_addmm": mixes - spatial,
        "spatial_matmul": spatial,
        "transpose": 0 if on.left_matrices else 2 * mixes,
        "add": adds,
        "mul": 2 * multi_axis
        + rcab
        + rdcab
        + 2 * cross
        + 3 * later
        + (12 * stages if on.convolutional_shrink else 0)
        + (0 if on.single_gelu else 6 * gelus),
        "gelu": gelus if on.single_gelu else 0,
        "tanh": 0 if on.single_gelu else gelus,
        "cat": (0 if folded else 9 * stages) + (0 if separate else multi_axis + weights),
        "chunk": 0 if separate else halves,
        "split": stages,  # what the deepest enlargement makes
        "plain_norm": foldable_norms if on.folded_norms else 0,
        "scaled_norm": other_norms + (0 if on.folded_norms else foldable_norms),
        "conv2d": (3 + 3 + 6 + 6) * stages  # images, shrinking, levels above and below
        + 2 * rcab
        + 9 * later
        + outputs
        + (6 * stages if on.convolutional_shrink else 0),
        "antialiased": 0 if on.convolutional_shrink else 6 * stages,
        "interpolate": 6 * stages,
        "permute": 2 * mixes
        + 2 * rcab * (1 if on.shared_layouts else 2)
        + 5 * stages  # enlargements
        + (3 + 3 + 1) * stages  # maps of encoders and skips, the bottleneck's tokens
        + (6 if folded else 12) * stages  # openings: one for all other levels, or one each
        + (3 if folded else 5)
        + (2 + 3 + 6) * later
        + outputs,
    }


@pytest.mark.parametrize("form", COUNTED)
def test_a_form_asks_for_what_it_should(form: str) -> None:
    assert_counts(TINY, form)
    assert_counts(TWO, form)


@pytest.mark.parametrize("form", ["all", "none"])
def test_more_groups_and_blocks_ask_for_what_they_should(form: str) -> None:
    assert_counts(DEEP, form)


def assert_counts(architecture: Architecture, form: str) -> None:
    counts = expected_counts(architecture, FORMS[form])
    found = calls(architecture, FORMS[form]).counts
    assert {name: found[name] for name in counts} == counts


SAVES = {
    "left_matrices": "transpose",
    "folded_chains": "cat",
    "folded_norms": "scaled_norm",
    "single_gelu": "tanh",
    "convolutional_shrink": "antialiased",
    "last_output_only": "conv2d",
    "shared_layouts": "permute",
    "separate_halves": "chunk",
    "spread_shortcuts": "add",
    "gemms": "matmul",
}
"""What a rewrite is after; how many of it are saved follows from `expected_counts`."""


@pytest.mark.parametrize("name", SAVES)
def test_a_rewrite_fires(name: str) -> None:
    """Less of what it is after, whether the others are on or off."""
    for without, with_it in (
        (all_but(name), Rewrites()),
        (Rewrites.only(), Rewrites.only(name)),
    ):
        before, after = calls(TWO, without).counts, calls(TWO, with_it).counts
        kind = SAVES[name]
        saved = expected_counts(TWO, without)[kind] - expected_counts(TWO, with_it)[kind]
        assert before[kind] - after[kind] == saved > 0


def changed_by(name: str) -> dict[str, int]:
    """How many times more `TWO` asks for something with a rewrite of the GPU's form.

    `rsqrt` is counted as "sqrt", see `Calls`.
    """
    without = calls(TWO, Rewrites()).counts
    found = calls(TWO, replace(Rewrites(), **{name: True})).counts
    return {kind: found[kind] - without[kind] for kind in {*found, *without}}


# Of TWO: 12 blocks of levels and 2 bottlenecks, each with one group; 12 cross gatings.
MULTI_AXIS, RDCAB, CROSS, WEIGHTS = 14, 2, 12, 24


def test_deviations_take_the_place_of_norms() -> None:
    norms = 3 * MULTI_AXIS + RDCAB + 2 * CROSS + WEIGHTS
    products = 6 * MULTI_AXIS + RDCAB + 2 * CROSS + 2 * WEIGHTS
    change = changed_by("deviations")
    assert change["plain_norm"] == -norms and change["sqrt"] == norms
    assert change["addmm"] == -products and change["matmul"] == products
    assert change["scaled_norm"] == change["gelu"] == 0


def test_joined_halves_take_fewer_products_and_norms() -> None:
    """`z` is one product and one GELU where two were; 4 parts of the output are 2, 3 at level 0."""
    for name, blocks in (("joined_halves", MULTI_AXIS - 4), ("full_size_halves", 4)):
        change = changed_by(name)
        assert change["gelu"] == -blocks and change["plain_norm"] == -3 * blocks
        assert change["addmm"] == -10 * blocks
        assert change["sqrt"] == 2 * blocks
        chained = blocks if name == "full_size_halves" else 0
        assert change["matmul"] == (1 + 4 + 2) * blocks + chained
        assert change.get("cat", 0) == blocks - chained


def test_early_projections_stand_before_the_partition_is_undone() -> None:
    change = changed_by("early_projections")
    assert change["addmm"] == -2 * WEIGHTS and change["matmul"] == 2 * WEIGHTS
    assert change["permute"] == 0 and change["add"] == 2 * WEIGHTS


def test_folded_shrinks_take_the_matrix_along() -> None:
    """Three shrunk sources for skips and three for decoders, in each of two stages."""
    change = changed_by("folded_shrinks")
    assert change["conv2d"] == -2 * 6 and change["add"] == 2 * 6


def test_joined_gates_have_one_product() -> None:
    """Of the second stage's six gates by level that use x only, but for the two at full size."""
    change = changed_by("joined_gates")
    assert change["addmm"] == -4 and change["cat"] == 4
    assert change["add"] == -4


def test_residual_maps_are_not_made_of_tokens() -> None:
    """Two shortcuts become maps, and the map that was made of the sum is there: one change more.

    So for the three encoders of the first stage and its three decoders; what two of these enlarge
    and hand on is made twice, and once in a graph. The last decoder needs no tokens: no change.
    """
    assert changed_by("residual_maps")["permute"] == 3 + 3 + 2 + 0


@pytest.mark.parametrize("form", ["cpu", "gpu"])
def test_partitioned_norms_stand_behind_the_partition(form: str) -> None:
    on = DEPLOYMENT_FORMS[form]
    assert calls(TWO, on).counts["norm_in_blocks"] == MULTI_AXIS
    assert calls(TWO, replace(on, partitioned_norms=False)).counts["norm_in_blocks"] == 0


def test_every_rewrite_is_seen_to_fire() -> None:
    assert {*SAVES, "small_projections", "partitioned_norms"} == set(CPU)
    assert set(GPU) == {
        "deviations", "joined_halves", "full_size_halves", "early_projections", "residual_maps",
        "folded_shrinks", "joined_gates",
    }  # fmt: skip


@pytest.mark.parametrize("folded", [True, False])
def test_small_projections_save_multiplications(folded: bool) -> None:
    """A source `k` levels below has 4^k times fewer pixels; there are skips and decoders."""
    on = Rewrites() if folded else all_but("folded_chains")
    without = calls(TWO, replace(on, small_projections=False)).multiply_adds
    pixels = [64 * 64 // 4**level for level in range(3)]
    saved = sum(
        TWO.channels(source) * TWO.channels(target) * (pixels[target] - pixels[source])
        for target, source in ((0, 1), (0, 2), (1, 2))
    )
    assert without - calls(TWO, on).multiply_adds == 2 * TWO.stages * saved


# ------------------------------------------------------------------ the switches


def test_an_unknown_rewrite() -> None:
    with pytest.raises(UsageError) as error:
        Rewrites.only("gemms", "folded_chain")
    message = "unknown rewrite 'folded_chain' (did you mean 'folded_chains'?); known: left_matrices"
    assert str(error.value).startswith(message) and str(error.value).endswith(", joined_gates")
    with pytest.raises(UsageError, match="unknown rewrite 'zzz'; known: "):
        Rewrites.only("zzz")


def test_a_rewrite_that_is_nearly_known() -> None:
    with pytest.raises(UsageError, match=r"unknown rewrite 'gemm' \(did you mean 'gemms'\?\)"):
        Rewrites.only("gemm")


def test_switches() -> None:
    assert Rewrites.only(*CPU) == Rewrites() == DEPLOYMENT_FORMS["cpu"]
    assert Rewrites.only(*REWRITES) == DEPLOYMENT_FORMS["gpu"]
    for name in CPU:
        assert getattr(Rewrites.only(name), name)
        assert all_but(name) == Rewrites.only(*(set(CPU) - {name}))


# ------------------------------------------------------------------ algebra


def randn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def affine(rows: int, columns: int) -> Affine:
    return Affine(randn(rows, columns), randn(columns))


def apply(matrix: Affine, x: Tensor) -> Tensor:
    """On the last axis."""
    return x @ matrix.weight + matrix.bias


def on_map(matrix: Affine, x: Tensor) -> Tensor:
    return primitives.channels_first(apply(matrix, primitives.channels_last(x)))


def test_chain() -> None:
    first, second, x = affine(3, 5), affine(5, 4), randn(7, 3)
    assert_close(apply(algebra.chain(first, second), x), apply(second, apply(first, x)))


@pytest.mark.parametrize("side, stride", [(3, 1), (4, 2)])
def test_chain_convolution_is_right_at_the_border(side: int, stride: int) -> None:
    kernel, matrix, x = Kernel(randn(5, 3, side, side), randn(5)), affine(5, 4), randn(2, 3, 6, 8)
    chained = algebra.chain_convolution(kernel, matrix)
    target = on_map(matrix, F.conv2d(x, *kernel, stride, padding=1))
    assert_close(F.conv2d(x, *chained, stride, padding=1), target)


def test_chain_transposed() -> None:
    kernel, matrix, x = Kernel(randn(3, 5, 2, 2), randn(5)), affine(5, 4), randn(2, 3, 3, 4)
    chained = algebra.chain_transposed(kernel, matrix)
    target = on_map(matrix, F.conv_transpose2d(x, *kernel, stride=2))
    assert_close(F.conv_transpose2d(x, *chained, stride=2), target)


def test_behind_norm() -> None:
    norm, matrix, x = primitives.LayerNorm(6).double(), affine(6, 4), randn(7, 6)
    norm.weight.copy_(randn(6))
    norm.bias.copy_(randn(6) + 1.0)
    plain = F.layer_norm(x, (6,), eps=primitives.LAYER_NORM_EPS)
    assert_close(apply(algebra.behind_norm(norm, matrix), plain), apply(matrix, norm(x)))


def test_parts_of_a_matrix() -> None:
    matrix, x = affine(6, 4), randn(7, 6)
    rows = [matrix.rows(0, 2).plus_bias(matrix.bias), matrix.rows(2, 6)]
    columns = [matrix.columns(0, 3), matrix.columns(3, 4)]
    target = apply(matrix, x)
    assert_close(apply(rows[0], x[:, :2]) + apply(rows[1], x[:, 2:]), target)
    assert_close(torch.cat([apply(part, x) for part in columns], dim=1), target)


def test_weights_of_layers() -> None:
    linear, x = nn.Linear(3, 4, dtype=torch.float64), randn(7, 3)
    assert_close(apply(Affine.of(linear), x), linear(x))
    down, image = nn.Conv2d(3, 4, 4, dtype=torch.float64), randn(1, 3, 5, 5)
    assert_close(F.conv2d(image, *Kernel.of(down)), down(image))


# ------------------------------------------------------------------ resampling and mixing


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("rows, columns", [(2, 2), (2, 7), (3, 2), (5, 4)])
@pytest.mark.parametrize("form", ["all", "none"])
def test_shrink(form: str, factor: int, rows: int, columns: int) -> None:
    """Down to two rows and columns, of which both are border."""
    x = randn(2, 3, rows * factor, columns * factor)
    target = F.interpolate(
        x, size=(rows, columns), mode="bilinear", align_corners=False, antialias=True
    )
    assert_close(Shrink(factor, FORMS[form]).double()(x), target)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("channels", [1, 5])
def test_a_matrix_joins_the_shrinking(factor: int, channels: int) -> None:
    """Also one that makes a single channel, as a depthwise kernel has."""
    x, matrix = randn(2, 3, 6 * factor, 4 * factor), affine(3, channels)
    levels = factor.bit_length() - 1
    found, target = (
        FromAbove(levels, matrix, Rewrites.only("convolutional_shrink", *names)).double()(x)
        for names in (("folded_shrinks",), ())
    )
    assert found.shape == (2, channels, 6, 4)
    assert_close(found, target)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("rows, columns", [(1, 3), (3, 1), (1, 1)])
def test_shrink_refuses_what_has_two_borders_in_one_pixel(
    factor: int, rows: int, columns: int
) -> None:
    """There more taps drop out than `BORDER` accounts for. The network has 16 rows at least."""
    with pytest.raises(UsageError, match="shrinking by"):
        Shrink(factor, Rewrites()).double()(randn(1, 3, rows * factor, columns * factor))


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("size", [Size(1, 1, 1), Size(2, 1, 3), Size(2, 5, 4)])
def test_enlarge(factor: int, size: Size) -> None:
    x = randn(*size, 3)
    target = primitives.resize(x, factor // 2, 0)
    found = Enlarge(factor)(primitives.channels_first(x))
    assert_close(primitives.channels_last(found), target)


@pytest.mark.parametrize("form", ["all", "none"])
@pytest.mark.parametrize("channels", [[4], [4, 4], [3, 5]])
@pytest.mark.parametrize("size", [Size(1, 1, 1), Size(2, 3, 5)])
def test_enlargement(size: Size, channels: list[int], form: str) -> None:
    kernels = [Kernel(randn(6, c, 2, 2), randn(c) + k) for k, c in enumerate(channels)]
    x = randn(*size, 6)
    found = Enlargement(kernels, FORMS[form])(x.reshape(-1, 6), size)
    assert len(found) == len(channels)
    for tokens, kernel in zip(found, kernels, strict=True):
        target = F.conv_transpose2d(primitives.channels_first(x), *kernel, stride=2)
        assert_close(tokens, primitives.channels_last(target).reshape(-1, kernel.bias.shape[0]))


@pytest.mark.parametrize("grid", [True, False], ids=["grid", "block"])
@pytest.mark.parametrize("names", [(), ("gemms",), ("left_matrices",), ("left_matrices", "gemms")])
@pytest.mark.parametrize("plus_one", [True, False], ids=["plus-one", "plain"])
@pytest.mark.parametrize("size", [Size(1, 4, 4), Size(2, 4, 12), Size(2, 12, 8)])
def test_spatial_mix(size: Size, plus_one: bool, names: tuple[str, ...], grid: bool) -> None:
    dense, x = nn.Linear(16, 16).double(), randn(*size, 3)
    partition = (gmlp.Partition.into_grid if grid else gmlp.Partition.into_blocks)(x, 4)
    axis = gmlp.GRID_AXIS if grid else gmlp.BLOCK_AXIS
    target = partition.merge(gmlp.mix(dense, partition.split(x), axis))
    if plus_one:
        target = target + 1.0
    mix = SpatialMix(dense, 4, grid=grid, plus_one=plus_one, rewrites=Rewrites.only(*names))
    assert_close(mix(x.reshape(-1, 3), size), target.reshape(-1, 3))


# ------------------------------------------------------------------ the graph


OPERATORS = {
    *("Gemm", "MatMul", "Conv", "Add", "Mul", "Gelu", "LayerNormalization"),
    *("LeakyRelu", "Relu", "Sigmoid", "ReduceMean", "Resize", "Reshape", "Transpose", "Slice"),
    *("Shape", "Squeeze", "Unsqueeze", "Concat", "Div", "Sub", "Expand", "Pad", "Split"),
}


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    """One stage, four features; traced in each run, 15 seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", traces.traced_anew)
        return tiny_graph()


def tiny_graph() -> ir.Model:
    network = module_from_checkpoint(reference.random_checkpoint(TINY))
    return onnx_from_module(DeploymentMaxim(network))


@pytest.mark.slow
def test_a_kept_trace_is_what_tracing_gives(graph: ir.Model, kept_traces: None, tmp_path) -> None:
    """Other tests take traces that are kept by a hash; this one would find it wanting."""
    ir.save(graph, tmp_path / "traced.onnx")
    ir.save(tiny_graph(), tmp_path / "kept.onnx")
    traced, kept = (onnx.load(tmp_path / f"{name}.onnx") for name in ("traced", "kept"))
    assert kept == traced


@pytest.mark.slow
def test_the_graph_is_as_simple_as_the_exporter_makes_it(kept_traces: None) -> None:
    """`simplify` uses few of the exporter's rules; the others find nothing."""
    ours = tiny_graph()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "simplify", optimizer.optimize_ir)
        theirs = tiny_graph()
    # Constants that a rule adds are numbered anew each time.
    found, expected = (
        [(node.name, node.op_type, [*map(read_by_name, node.inputs)]) for node in one.graph]
        for one in (ours, theirs)
    )
    assert len(found) > 700 and found == expected


def read_by_name(value: ir.Value | None) -> object:
    """The numbers of a small constant, the name of anything else."""
    small = value is not None and value.is_initializer() and value.dtype == ir.DataType.INT64
    return constant(value).tolist() if small else value and value.name


@pytest.fixture(scope="module")
def session(graph: ir.Model, tmp_path_factory: pytest.TempPathFactory):
    path: Path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    ir.save(graph, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def nodes(graph: ir.Model, kind: str) -> list[ir.Node]:
    return [node for node in graph.graph if node.op_type == kind]


def constant(value: ir.Value | None) -> np.ndarray:
    assert value is not None
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None
    return tensor.numpy()


@pytest.mark.slow
def test_operators_of_the_graph(graph: ir.Model) -> None:
    assert graph.opset_imports == {"": 20} and not graph.functions
    assert {(node.domain, node.op_type) for node in graph.graph} <= {("", op) for op in OPERATORS}
    counts = expected_counts(TINY, Rewrites())
    kinds = Counter(node.op_type for node in graph.graph)
    assert kinds["Gemm"] == counts["addmm"] + counts["spatial_addmm"]
    assert kinds["MatMul"] == counts["spatial_matmul"]
    assert kinds["Gelu"] == counts["gelu"]
    assert kinds["LayerNormalization"] == counts["plain_norm"] + counts["scaled_norm"]
    assert kinds["Conv"] == counts["conv2d"]
    assert kinds["Resize"] == counts["interpolate"]
    assert kinds["Split"] == counts["split"] == 1
    assert kinds["Transpose"] == counts["permute"]
    assert {node.attributes["approximate"].as_string() for node in nodes(graph, "Gelu")} == {"tanh"}


@pytest.mark.slow
def test_one_split_at_the_deepest_enlargement(graph: ir.Model) -> None:
    (split,) = nodes(graph, "Split")
    gate, ahead = constant(split.inputs[1]).tolist() if split.inputs[1] else (0, 0)
    assert gate == ahead == TINY.channels(2)


@pytest.mark.slow
def test_resizes_are_over_the_two_last_axes(graph: ir.Model) -> None:
    """For skips and decoders: level 1 from 2, level 0 from 1, and level 0 from 2."""
    scales = Counter()
    for node in nodes(graph, "Resize"):
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        assert attributes.pop("mode") == "linear"
        assert attributes.pop("coordinate_transformation_mode", "half_pixel") == "half_pixel"
        assert not attributes.get("antialias", 0)
        scales[tuple(constant(node.inputs[2]).tolist())] += 1
    assert scales == {(1, 1, 2, 2): 4, (1, 1, 4, 4): 2}


@pytest.mark.slow
def test_layer_norms_are_the_networks_own(graph: ir.Model) -> None:
    for node in nodes(graph, "LayerNormalization"):
        assert node.attributes["axis"].as_int() in (-1, 1)
        assert node.attributes["epsilon"].as_float() == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.slow
def test_no_size_of_the_example_is_in_a_constant(graph: ir.Model) -> None:
    """Its batch and sides have prime factors that nothing else here has, nor has any product."""
    batch, _, height, width = EXAMPLE_SHAPE
    factors = {batch, height // MULTIPLE_OF, width // MULTIPLE_OF}
    assert min(factors) > 4 and all(factor % 2 for factor in factors)
    values = list(graph.graph.initializers.values())
    values += [node.outputs[0] for node in nodes(graph, "Constant")]
    integers = [constant(v) for v in values if v.dtype == ir.DataType.INT64]
    assert len(integers) > 20
    found = {int(number) for array in integers for number in array.flat}
    found -= {0, np.iinfo(np.int64).max, np.iinfo(np.int64).min + 1}
    assert not {number for number in found if any(number % factor == 0 for factor in factors)}


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SMALLEST, WIDE, TALL, (3, 128, 192), (2, 64, 320)])
def test_the_graph_at_sizes_it_never_saw(session, shape: tuple[int, int, int]) -> None:
    image = picture(*shape)
    (found,) = session.run(None, {"image": image.float().numpy()})
    target = literal(TINY)(image.float().double()).numpy()
    assert found.dtype == np.float32 and found.shape == target.shape
    assert np.abs(found - target).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 64), (64, 96), (65, 64), (64, 16)])
def test_the_graph_gives_nothing_for_other_sizes(session, size: tuple[int, int]) -> None:
    with pytest.raises(Exception, match=r"ONNXRuntimeError"):
        session.run(None, {"image": picture(1, *size).float().numpy()})
