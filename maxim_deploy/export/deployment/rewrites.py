"""The exact rewrites, each with a switch, and the deployment forms that combine them.

Each rewrite equals the literal network in real arithmetic, so only rounding changes. Its
mathematics is in the module that applies it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from maxim_deploy.errors import check_known


@dataclass(frozen=True)
class Rewrites:
    """The rewrites of a deployment module; by default those of the CPU's form.

    Attributes:
        left_matrices: spatial matrices multiply from the left, without transposes (`mixing`).
        small_projections: a 1x1 after an enlargement runs before it (`resampling`).
        folded_chains: consecutive linear layers become one (`algebra.chain` and its convolutions).
        folded_norms: LayerNorm's scale and shift join the next matrix (`algebra.behind_norm`), and
            the gate's `+ 1` joins the spatial bias (`mixing`).
        single_gelu: GELU as one operator rather than its formula (`modules.Gelu`).
        convolutional_shrink: antialiased shrinking as a depthwise convolution (`resampling`).
        last_output_only: only nodes that the full-size output of the last stage needs.
        shared_layouts: one layout change into and out of consecutive convolutions
            (`blocks.ConvolutionalAttention`).
        separate_halves: the halves of a projection are separate projections, and a matrix on a
            concatenation is a sum of products (`modules.Halves`, `modules.MatrixOfParts`).
        spread_shortcuts: a matrix after a residual branch is multiplied into the branch
            (`blocks.MultiAxis`).
        gemms: channel matrices are Gemm on `[pixels, channels]`, including bias and addend
            (`modules.Matrix`).
        partitioned_norms: the gate's LayerNorm runs after the partition (`mixing`).
        deviations: a LayerNorm before a matrix becomes a factor after it (`modules.Deviation`).
        joined_halves: both halves of a multi-axis block stay one tensor (`blocks.JoinedMultiAxis`),
            except at full size.
        full_size_halves: the same at full size.
        early_projections: the gating weights' matrix runs before the partition is undone
            (`blocks.GatingWeights`).
        residual_maps: a group whose result is a map adds its shortcuts as maps (`blocks.Groups`).
        folded_shrinks: shrinking and the next matrix are one convolution (`resampling.FromAbove`).
        joined_gates: cross gating with only x in use has one output matrix, except at full size
            (`blocks.CrossGate`).
    """

    left_matrices: bool = True
    small_projections: bool = True
    folded_chains: bool = True
    folded_norms: bool = True
    single_gelu: bool = True
    convolutional_shrink: bool = True
    last_output_only: bool = True
    shared_layouts: bool = True
    separate_halves: bool = True
    spread_shortcuts: bool = True
    gemms: bool = True
    partitioned_norms: bool = True
    deviations: bool = False
    joined_halves: bool = False
    full_size_halves: bool = False
    early_projections: bool = False
    residual_maps: bool = False
    folded_shrinks: bool = False
    joined_gates: bool = False

    @classmethod
    def only(cls, *names: str) -> Rewrites:
        """Only the named rewrites; without names none.

        Raises:
            UsageError: a rewrite is unknown.
        """
        for name in names:
            check_known("rewrite", name, REWRITES)
        return cls(**{name: name in names for name in REWRITES})


REWRITES = tuple(field.name for field in fields(Rewrites))
"""The names of all rewrites."""

_GPU_RANGE = replace(
    Rewrites(),
    deviations=True,
    joined_halves=True,
    early_projections=True,
    residual_maps=True,
    folded_shrinks=True,
    joined_gates=True,
)

FORMS = {
    "cpu": Rewrites(),
    "gpu": replace(_GPU_RANGE, full_size_halves=True),
    "gpu-range": _GPU_RANGE,
}
"""The rewrites of each deployment form. Those of the GPU's forms save passes over memory, because a
GPU's bandwidth is small for its arithmetic. On a CPU the work that they add costs more.

Joined halves at full size save 5 % of the traffic, but live longest. An engine for one size has
room for them. An engine for a range plans its memory without knowing the size, and takes 6 % less
memory without them (S-2 in fp16, TensorRT for RTX 1.7)."""
