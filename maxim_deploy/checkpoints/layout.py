"""All parameters of a MAXIM with their shapes.

Paths and shapes are those of the published checkpoints, without the `opt/target/` in front. Each
function below mirrors one module of the network and returns `{path: shape}` relative to it, so the
file reads as the network's outline. Kernels: dense `[in, out]`, convolutions `[kh, kw, in, out]`.
"""

from __future__ import annotations

from maxim_deploy.spec.architecture import BLOCK_SIZES, DEPTH, REDUCTION, Architecture

Shapes = dict[str, tuple[int, ...]]

IMAGE_CHANNELS = 3


def parameter_shapes(architecture: Architecture) -> Shapes:
    """All parameter paths, such as "stage_0_input_conv_0/kernel", to their shapes."""
    modules: dict[str, Shapes] = {}
    for stage in range(architecture.stages):
        for level in range(DEPTH):
            modules |= _level(architecture, stage, level)
        for block in range(architecture.bottleneck_blocks):
            modules[f"stage_{stage}_global_block_{block}"] = _bottleneck_block(architecture)
    return _module(**modules, **_resized(architecture))


def _level(architecture: Architecture, stage: int, level: int) -> dict[str, Shapes]:
    """The parameters of a stage at one level: input, encoder, cross gating, decoder and output."""
    channels, groups = architecture.channels(level), architecture.groups
    positions = BLOCK_SIZES[level] ** 2
    above = architecture.channels(max(level - 1, 0))
    below = architecture.channels(min(level + 1, DEPTH - 1))
    later, last = stage > 0, stage == architecture.stages - 1

    # Level 0 takes its input twice, as input and as skip. Other levels take the level above and a
    # skip.
    encoder = _encoder_block(above + channels, channels, positions, groups)
    encoder |= _module(Conv_1=_conv(4, channels, channels))
    if later:
        encoder |= _module(cross_gating_block=_cross_gating(channels, channels, positions))
    decoder = _module(
        ConvTranspose_0=_conv(2, below, channels),
        UNetEncoderBlock_0=_encoder_block((1 + DEPTH) * channels, channels, positions, groups),
    )
    modules = {
        "input_conv": _conv(3, IMAGE_CHANNELS, channels),
        "encoder_block": encoder,
        "cross_gating_block": _cross_gating(DEPTH * channels, channels, positions)
        | _module(ConvTranspose_0=_conv(2, below, channels)),
        "decoder_block": decoder,
    }
    if later:
        modules["input_fuse_sam"] = _cross_gating(channels, channels, positions)
    if last:
        modules["output_conv"] = _conv(3, channels, IMAGE_CHANNELS)
    else:
        modules["supervised_attention_module"] = _supervised_attention(channels)
    return {f"stage_{stage}_{name}_{level}": shapes for name, shapes in modules.items()}


def _resized(architecture: Architecture) -> dict[str, Shapes]:
    """The 1x1 after each resize, numbered over the whole network in order of use."""
    up, down = range(DEPTH), range(DEPTH - 1, -1, -1)
    encoded = [(source, level) for level in down for source in up]
    skipped = [(source, level) for level in down for source in down]
    return {
        f"UpSampleRatio_{number}": _module(
            Conv_0=_conv(1, architecture.channels(source), architecture.channels(level))
        )
        for number, (source, level) in enumerate((encoded + skipped) * architecture.stages)
    }


def _encoder_block(channels_in: int, channels: int, positions: int, groups: int) -> Shapes:
    blocks = {"Conv_0": _conv(1, channels_in, channels)}
    for group in range(groups):
        blocks[f"SplitHeadMultiAxisGmlpLayer_{group}"] = _multi_axis_block(channels, positions)
        blocks[f"channel_attention_block_1{group}"] = _module(
            LayerNorm=_norm(channels),
            conv1=_conv(3, channels, channels),
            conv2=_conv(3, channels, channels),
            channel_attention=_channel_attention(channels),
        )
    return _module(**blocks)


def _bottleneck_block(architecture: Architecture) -> Shapes:
    channels, positions = architecture.channels(DEPTH - 1), BLOCK_SIZES[-1] ** 2
    blocks = {"input_proj": _conv(1, channels, channels)}
    for group in range(architecture.groups):
        blocks[f"SplitHeadMultiAxisGmlpLayer_{group}"] = _multi_axis_block(channels, positions)
        blocks[f"channel_attention_block_1_{group}"] = _module(
            LayerNorm=_norm(channels),
            channel_mixing=_module(
                Dense_0=_dense(channels, channels), Dense_1=_dense(channels, channels)
            ),
            channel_attention=_channel_attention(channels),
        )
    return _module(**blocks)


def _multi_axis_block(channels: int, positions: int) -> Shapes:
    return _module(
        LayerNorm_in=_norm(channels),
        in_project=_dense(channels, 2 * channels),
        GridGmlpLayer=_gated_mlp("GridGatingUnit", channels, positions),
        BlockGmlpLayer=_gated_mlp("BlockGatingUnit", channels, positions),
        out_project=_dense(2 * channels, channels),
    )


def _gated_mlp(unit: str, channels: int, positions: int) -> Shapes:
    gating = _module(intermediate_layernorm=_norm(channels), Dense_0=_dense(positions, positions))
    return _module(
        LayerNorm=_norm(channels),
        in_project=_dense(channels, 2 * channels),
        out_project=_dense(channels, channels),
        **{unit: gating},
    )


def _cross_gating(channels_x: int, channels: int, positions: int) -> Shapes:
    sides = {}
    for side in ("x", "y"):
        sides[f"LayerNorm_{side}"] = _norm(channels)
        sides[f"in_project_{side}"] = _dense(channels, channels)
        sides[f"out_project_{side}"] = _dense(channels, channels)
        sides[f"SplitHeadMultiAxisGating_{side}"] = _module(
            LayerNorm_in=_norm(channels),
            in_project=_dense(channels, 2 * channels),
            Dense_0=_dense(positions, positions),
            Dense_1=_dense(positions, positions),
            out_project=_dense(2 * channels, channels),
        )
    return _module(
        Conv_0=_conv(1, channels_x, channels), Conv_1=_conv(1, channels, channels), **sides
    )


def _supervised_attention(channels: int) -> Shapes:
    return _module(
        Conv_0=_conv(3, channels, channels),
        Conv_1=_conv(3, channels, IMAGE_CHANNELS),
        Conv_2=_conv(3, IMAGE_CHANNELS, channels),
    )


def _channel_attention(channels: int) -> Shapes:
    squeezed = channels // REDUCTION
    return _module(Conv_0=_conv(1, channels, squeezed), Conv_1=_conv(1, squeezed, channels))


def _module(**children: Shapes) -> Shapes:
    """The parameters of all children, each below its name."""
    return {
        f"{name}/{path}": shape for name, child in children.items() for path, shape in child.items()
    }


def _conv(side: int, channels_in: int, channels_out: int) -> Shapes:
    return {"kernel": (side, side, channels_in, channels_out), "bias": (channels_out,)}


def _dense(channels_in: int, channels_out: int) -> Shapes:
    return {"kernel": (channels_in, channels_out), "bias": (channels_out,)}


def _norm(channels: int) -> Shapes:
    return {"scale": (channels,), "bias": (channels,)}
