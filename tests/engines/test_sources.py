"""From the layers of an engine to blocks of the network and kinds of work, by names alone."""

from __future__ import annotations

from maxim_deploy.engines.layers import Layer, Tensor
from maxim_deploy.engines.sources import only_moves, sources_of_layers
from maxim_deploy.spec.kinds import Source
from maxim_deploy.spec.places import INPUT, Place

STEP = "stages/0/encoder/0/groups/steps"
GMLP, ATTENTION = (Place(1, "encoder", 0, b) for b in ("multi-axis gMLP", "channel attention"))


def layer(kind: str, nodes: str, reads: str = "", writes: str = "", name: str = "x") -> Layer:
    inputs, outputs = (
        tuple(Tensor(one, (64, 8), "float16") for one in names.split()) for names in (reads, writes)
    )
    return Layer(name, kind, ("float16",), tuple(nodes.split()), inputs, outputs)


def test_most_nodes_and_the_strongest_kind_decide() -> None:
    found = sources_of_layers(
        [
            layer("gemm", f"{STEP}/0/halves/Gemm_0 {STEP}/0/halves/gelu/Gelu_0"),
            # of the product it has the sum with the bias
            layer("kgen", f"{STEP}/0/out/Gemm_0 {STEP}/1/LeakyRelu_0 {STEP}/1/Add_0"),
            layer("kgen", f"{STEP}/0/norm/LayerNormalization_0 {STEP}/0/Transpose_0"),
        ]
    )
    assert found == [
        Source(GMLP, "matrix product"),
        Source(ATTENTION, "elementwise"),
        Source(GMLP, "LayerNorm"),
    ]


def test_a_layer_outside_of_all_blocks_belongs_to_where_its_input_comes_from() -> None:
    found = sources_of_layers(
        [
            layer("kgen", "Slice_0", "image", "small"),
            layer("gemm", f"{STEP}/0/out/Gemm_0", "small", "tokens"),
            layer("kgen", "stages/0/Transpose_3", "weight tokens", "map"),
            layer("kgen", "Split_0", "map", "half"),
            layer("signal", "", "half", name="a_0"),
        ]
    )
    assert [source.place for source in found] == [INPUT, GMLP, GMLP, GMLP, None]
    assert [source.kind for source in found[2:]] == ["layout change", "copy", "other"]


def test_a_layer_without_nodes_is_known_by_its_name() -> None:
    name = "{ForeignNode[" + f"{STEP}/1/conv1/Conv_0...{STEP}/1/Add_0" + "]}"
    found = sources_of_layers([layer("", "", name=name), layer("", "", name="unheard of")])
    assert found == [Source(ATTENTION, "convolution"), Source(None, "other")]


def test_what_only_moves_computes_nothing() -> None:
    moves = f"{STEP}/0/Reshape_0 {STEP}/0/Transpose_0 Slice_0 Concat_0 {STEP}/0/Gemm_0/Cast_0"
    assert only_moves(layer("kgen", moves))
    assert not only_moves(layer("kgen", f"{moves} {STEP}/0/Mul_0"))
    assert not only_moves(layer("kgen", f"{moves} {STEP}/0/enlarge/Resize_0"))
    assert not only_moves(layer("signal", ""))


def test_the_name_of_a_generated_kernel_tells_what_it_does() -> None:
    mean, reshape = f"{STEP}/1/ReduceMean_0", f"{STEP}/0/Reshape_0"
    assert only_moves(layer("kgen", mean, name="__myl_Resh_myl0_196"))
    assert only_moves(layer("kgen", "", name="__myl_TranConc_myl0_197 [profile 1]"))
    assert not only_moves(layer("kgen", reshape, name="__myl_ReshMulTran_myl0_1"))
    assert not only_moves(layer("kgen", reshape, name="__myl_ReshTranEtc_myl0_1"))
