"""Names of nodes to blocks of the published network, for both forms."""

from __future__ import annotations

import pytest
import torch
from graph.small_graphs import node

from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.places import INPUT, Place, place_of_name, places_of, published_name

TWO_STAGES = Architecture(features=8, stages=2, groups=1, bottleneck_blocks=2)


@pytest.mark.parametrize(
    ("name", "words", "block"),
    [
        ("stages/0/open_encoder/1/down/Conv_0", "stage 1 encoder, level 1", "opening"),
        ("stages/0/encoder/2/groups/steps/2/halves/gelu/Gelu_0", "stage 1 encoder, level 2",
         "multi-axis gMLP"),
        ("stages/0/encoder/2/groups/steps/1/conv1/Conv_0", "stage 1 encoder, level 2",
         "channel attention"),
        ("stages/1/encoder/0/open_x/Gemm_0", "stage 2 encoder, level 0", "cross gating"),
        ("stages/1/encoder/0/gate/norm_x/LayerNormalization_0", "stage 2 encoder, level 0",
         "cross gating"),
        ("stages/0/bottleneck/1/steps/0/out/parts/0/Gemm_0", "stage 1 bottleneck, block 1",
         "multi-axis gMLP"),
        ("stages/0/enlarge_deepest/matrix/Gemm_0", "stage 1 cross gating, level 2", "opening"),
        ("stages/0/enlarge_gate/1/Reshape_0", "stage 1 cross gating, level 1", "opening"),
        ("stages/0/skip/0/gate/Mul_0", "stage 1 cross gating, level 0", "cross gating"),
        ("stages/1/open_decoder/2/others/0/shrink/Conv_0", "stage 2 decoder, level 2", "opening"),
        ("stages/1/fuse/0/image/Conv_0", "stage 2 input fusion, level 0", "opening"),
        ("stages/1/fuse/0/gate/Add_0", "stage 2 input fusion, level 0", "cross gating"),
        ("stages/0/output/1/features/Conv_0", "stage 1 supervised attention, level 1", ""),
        ("stages/1/output/0/Conv_0", "stage 2 output, level 0", ""),
        # the literal network
        ("stage_0_encoder_block_0/Conv_1/Conv_0", "stage 1 encoder, level 0", "down-sampling"),
        ("stage_1_encoder_block_0/cross_gating_block/Conv_0/MatMul_0", "stage 2 encoder, level 0",
         "cross gating"),
        ("stage_0_decoder_block_1/UNetEncoderBlock_0/channel_attention_block_10/conv1/Conv_0",
         "stage 1 decoder, level 1", "channel attention"),
        ("stage_1_cross_gating_block_2/out_project_x/MatMul_0", "stage 2 cross gating, level 2",
         "cross gating"),
        ("stage_0_input_conv_2/Conv_0", "stage 1 encoder, level 2", "opening"),
        ("stage_1_input_conv_2/Conv_0", "stage 2 input fusion, level 2", "opening"),
        ("UpSampleRatio_0/Conv_0/MatMul_0", "stage 1 cross gating, level 2", "opening"),
        ("UpSampleRatio_17/Resize_0", "stage 1 decoder, level 0", "opening"),
        ("UpSampleRatio_30/Resize_0", "stage 2 decoder, level 1", "opening"),
    ],
)  # fmt: skip
def test_a_name_tells_the_published_block(name: str, words: str, block: str) -> None:
    place = place_of_name(name, stages=2)
    assert place is not None
    assert (str(place), place.block) == (words, block)


def test_every_module_of_both_forms_has_a_place() -> None:
    """What fails here is a module that was renamed."""
    from maxim_deploy.benchmarks.artifacts import random_checkpoint
    from maxim_deploy.export.deployment import DeploymentMaxim
    from maxim_deploy.model import module_from_checkpoint

    literal = module_from_checkpoint(random_checkpoint(TWO_STAGES))
    forms = {"deployment": DeploymentMaxim(literal), "literal": literal}
    for form, module in forms.items():
        modules = [m for m in module.named_modules() if not isinstance(m[1], torch.nn.ModuleList)]
        leaves = [name for name, child in modules if not list(child.children())]
        assert len(leaves) > 300
        for leaf in leaves:
            place = place_of_name(leaf.replace(".", "/") + "/Op_0", stages=2)
            assert place is not None, f"{form}: {leaf}"
            has = {name.replace(".", "/") for name, _ in literal.named_modules()}
            if form == "deployment":
                exact = published_name(leaf.replace(".", "/"), stages=2)
                assert exact in has, f"{leaf} is said to compute {exact}"


def test_parts_are_shown_along_the_data() -> None:
    parts = [
        INPUT,
        Place(1, "encoder", 0),
        Place(1, "encoder", 2),
        Place(1, "bottleneck", 0),
        Place(1, "bottleneck", 1),
        Place(1, "cross gating", 2),
        Place(1, "cross gating", 0),
        Place(1, "decoder", 2),
        Place(1, "decoder", 0),
        Place(1, "supervised attention", 0),
        Place(2, "input fusion", 0),
        Place(2, "output", 0),
    ]
    backwards = parts[::-1]
    assert sorted(backwards, key=lambda place: place.order) == parts
    assert str(parts[4]) == "stage 1 bottleneck, block 1"
    assert str(parts[1]) == "stage 1 encoder, level 0"


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("stages/0/encoder/1/groups/steps/0/out/parts/3/Gemm_0",
         "stage_0_encoder_block_1/SplitHeadMultiAxisGmlpLayer_0"),
        ("stages/0/encoder/1/groups/steps/3", "stage_0_encoder_block_1/channel_attention_block_11"),
        ("stages/0/bottleneck/1/steps/3/first/Gemm_0",
         "stage_0_global_block_1/channel_attention_block_1_1"),
        ("stages/0/bottleneck/1/Add_0", "stage_0_global_block_1"),
        ("stages/1/decoder/0/steps/1/conv1/Conv_0",
         "stage_1_decoder_block_0/UNetEncoderBlock_0/channel_attention_block_10"),
        ("stages/1/fuse/2/attended/Gemm_0", "stage_1_input_fuse_sam_2/Conv_1"),
        ("stages/1/fuse/2/gate/weights_y/out",
         "stage_1_input_fuse_sam_2/SplitHeadMultiAxisGating_y"),
        ("stages/1/encoder/2/open_y/Gemm_0", "stage_1_encoder_block_2/cross_gating_block/Conv_1"),
        ("stages/1/encoder/2/gate/weights_x/Mul_0",
         "stage_1_encoder_block_2/cross_gating_block/SplitHeadMultiAxisGating_x"),
        ("stages/1/skip/0/gate/in_x/Gemm_0", "stage_1_cross_gating_block_0"),
        ("stages/0/enlarge_deepest/matrix/Gemm_0", "stage_0_cross_gating_block_2/Conv_1"),
        ("stages/0/enlarge_decoded/1/matrix/Gemm_0", "stage_0_decoder_block_1/ConvTranspose_0"),
        ("stages/0/output/1/image/Conv_0", "stage_0_supervised_attention_module_1"),
        ("stages/1/output/0/Conv_0", "stage_1_output_conv_0"),
        ("stages/1/Add_0", None),
        ("pad/Shape_0", None),
        ("stage_0_encoder_block_1/Conv_0", None),
    ],
)  # fmt: skip
def test_a_node_of_the_deployment_form_has_a_published_name(
    name: str, published: str | None
) -> None:
    assert published_name(name, stages=2) == published


def test_a_node_outside_of_all_modules_belongs_to_where_its_input_comes_from() -> None:
    relu = node("LeakyRelu", "image", "stages/0/encoder/0/groups/steps/1/LeakyRelu_0")
    out = node("Conv", "second", "stages/0/output/0/Conv_0")
    restored = node("Add", f"{out.name} image", "stages/0/Add_0")
    split = node("Split", relu.name, "first second")
    places = places_of([node("Shape", "image", "sizes"), relu, split, out, restored])
    assert places["first"] == Place(1, "encoder", 0, "channel attention")
    assert places["stages/0/Add_0"] == Place(1, "output", 0)
    assert places["sizes"] == INPUT
