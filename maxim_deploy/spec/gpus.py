"""The highest rates of known GPUs, and a lower bound on a run's time.

The bound assumes that data come from GPU memory. With a small image, caches may hold the tensors
and beat it. It is a bound, not a measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from maxim_deploy.spec.precision import FULL

_ADA = "NVIDIA Ada GPU Architecture, whitepaper, appendix"
_BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture, whitepaper, appendix"
_AMPERE = "NVIDIA Ampere GA102 GPU Architecture, whitepaper, table of GeForce RTX GPUs"


@dataclass(frozen=True)
class KnownGpu:
    """A GPU's rates as its maker gives them, at boost clock.

    Attributes:
        name: name that the driver reports. A Jetson's driver does not distinguish modules, so it is
            the module's name.
        compute_capability: such as "8.9".
        gbps: memory bandwidth, 10**9 bytes per second, read and written together.
        fp16_tflops: 10**12 operations per second of dense float16 products with float32 sums; a
            multiply-add is two operations. bfloat16 has the same rate.
        fp32_tflops: the same in float32, without TF32.
        source: NVIDIA's document that has these figures.
    """

    name: str
    compute_capability: str
    gbps: float
    fp16_tflops: float
    fp32_tflops: float
    source: str

    def gflops(self, precision: str) -> float:
        """10**9 operations per second of products in a precision."""
        return 1e3 * (self.fp32_tflops if precision == FULL else self.fp16_tflops)


# Data sheets of data-centre GPUs give tensor rates with sparsity. The table has half of them.
# fmt: off
KNOWN_GPUS = (
    KnownGpu("NVIDIA GeForce RTX 3090", "8.6", 936, 71, 35.6, _AMPERE),
    KnownGpu("NVIDIA GeForce RTX 4090", "8.9", 1008, 165.2, 82.6, _ADA),
    KnownGpu("NVIDIA GeForce RTX 5090", "12.0", 1792, 209.5, 104.8, _BLACKWELL),
    KnownGpu("NVIDIA RTX 6000 Ada Generation", "8.9", 960, 364.2, 91.1, _ADA),
    KnownGpu("NVIDIA L4", "8.9", 300, 121, 30.3, "NVIDIA L4 data sheet"),
    KnownGpu("NVIDIA L40S", "8.9", 864, 362.05, 91.6, "NVIDIA L40S data sheet"),
    KnownGpu("NVIDIA A100-SXM4-40GB", "8.0", 1555, 312, 19.5, "NVIDIA A100 data sheet"),
    KnownGpu("NVIDIA A100-SXM4-80GB", "8.0", 2039, 312, 19.5, "NVIDIA A100 data sheet"),
    KnownGpu("NVIDIA H100 PCIe", "9.0", 2000, 756.5, 51, "NVIDIA H100 data sheet"),
    KnownGpu("NVIDIA H100 80GB HBM3", "9.0", 3350, 989.5, 67, "NVIDIA H100 data sheet"),
    KnownGpu("NVIDIA H200", "9.0", 4800, 989.5, 67, "NVIDIA H200 data sheet"),
    # 170 TOPS in sparse int8 are 85 in dense int8, and half of that in float16.
    KnownGpu("Jetson AGX Orin 64GB", "8.7", 204.8, 42.5, 5.3,
             "NVIDIA Jetson AGX Orin Series, technical brief"),
)
# fmt: on


def known_gpu(name: str) -> KnownGpu | None:
    """The GPU that a driver reports by this name, or None if its rates are not in the table."""
    return next((gpu for gpu in KNOWN_GPUS if gpu.name == name), None)


def bound_ms(moved: float, gbps: float, operations: float = 0.0, gflops: float = math.inf) -> float:
    """Least milliseconds of a run: the larger of the times for its bytes and for its operations.

    Args:
        moved: bytes, read and written together.
        gbps: 10**9 bytes per second.
        operations: number of operations of products and convolutions, two per multiply-add; 0 if
            unknown.
        gflops: 10**9 operations per second.
    """
    return 1e3 * max(moved / (gbps * 1e9), operations / (gflops * 1e9))
