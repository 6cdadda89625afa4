"""The exact rewrites, each with a switch for tests and ablation, and the forms made of them.

Each is equal to the literal network in real arithmetic, so only rounding changes. The mathematics
of a rewrite stands in the module that applies it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from maxim_deploy.errors import check_known


@dataclass(frozen=True)
class Rewrites:
    """Which rewrites a deployment module uses; by default those of the CPU's form.

    Attributes:
        left_matrices: spatial matrices multiply from the left, without transposes (`mixing`).
        small_projections: a 1x1 behind an enlargement is done before it (`resampling`).
        folded_chains: linear layers in a row become one (`algebra.chain` and its convolutions).
        folded_norms: LayerNorm's scale and shift join the matrix behind it (`algebra.behind_norm`),
            and the gate's `+ 1` joins the spatial bias (`mixing`).
        single_gelu: GELU as one operator rather than its formula (`modules.Gelu`).
        convolutional_shrink: antialiased shrinking as a depthwise convolution (`resampling`).
        last_output_only: only what the full-size output of the last stage needs.
        shared_layouts: one layout change into and out of convolutions that follow each other
            (`blocks.ConvolutionalAttention`).
        separate_halves: the halves of a projection are projections of their own, and a matrix on a
            concatenation is a sum of products (`modules.Halves`, `modules.MatrixOfParts`).
        spread_shortcuts: a matrix behind a residual branch is multiplied into the branch
            (`blocks.MultiAxis`).
        gemms: channel matrices as Gemm on `[pixels, channels]`, bias and addend included
            (`modules.Matrix`).
        partitioned_norms: the gate's LayerNorm behind the partition (`mixing`).
        deviations: a LayerNorm before a matrix as a factor behind it (`modules.Deviation`).
        joined_halves: both halves of a multi-axis block stay one tensor (`blocks.JoinedMultiAxis`),
            but for full size.
        full_size_halves: the same at full size.
        early_projections: the gating weights' matrix before the partition is undone
            (`blocks.GatingWeights`).
        residual_maps: a group whose result is needed as a map adds its shortcuts there
            (`blocks.Groups`).
        folded_shrinks: shrinking and the matrix behind it are one convolution
            (`resampling.FromAbove`).
        joined_gates: cross gating of which x alone is used has one output matrix, but for full
            size (`blocks.CrossGate`).
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
        """Just the rewrites named; none for no name.

        Raises:
            UsageError: there is no such rewrite.
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
"""The rewrites of each deployment form. Those of the GPU's forms save passes over memory, of which
a GPU has little bandwidth for its arithmetic; on a CPU the work that they add costs more.

Halves that are one tensor at full size save 5 % of the traffic. They also live longest. An engine
for one size finds room for them. One for a range of sizes plans its memory without knowing the
sizes: it takes 6 % less memory without them (S-2 in fp16, TensorRT for RTX 1.7)."""
