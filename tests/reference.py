"""The measured reference: pseudo-random parameters by recipe, inputs and outputs from files.

Parameters follow the recipe that the reference outputs were computed with: CRC-32 seeded sums of
twelve uniforms, spread by the role of the leaf. `DIGESTS` proves that they come out bit for bit.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from pathlib import Path

import numpy as np

from maxim_deploy.checkpoints import Checkpoint, parameter_shapes
from maxim_deploy.spec.architecture import VARIANTS, Architecture
from maxim_deploy.spec.descriptor import Descriptor

DATA = Path(__file__).parent / "data"
SEED = "golden-1"

# SHA-256 over keys (sorted, with their prefix), shapes and little-endian float32 values.
DIGESTS = {
    "S-1": "efb45219d2cc7bb4a96d7053ac870d6cc7448d1f3f7c66e97cb0ba21511c2fdb",
    "S-2": "5ab48b9b15d36345dc37d78c757dccd6ab0ffe7443dcdd97169999b769137373",
    "S-3": "f47a35a26bb1cdc4a1341f71b8b1884baf36a26923642785d68cb09edc612c3c",
}

CASES = {
    "S-1": ("S-1_n1_64x64", "S-1_n1_128x192"),
    "S-2": ("S-2_n1_64x64", "S-2_n2_64x128", "S-2_n1_128x192"),
    "S-3": ("S-3_n1_64x64", "S-3_n1_128x192"),
}

# A correct float32 port is 2e-6 off; the mildest mistake (LayerNorm's epsilon) costs 5.7e-5.
TOLERANCE = 1e-5

_GATING_WEIGHTS = ("SplitHeadMultiAxisGating_x", "SplitHeadMultiAxisGating_y")
_GATING_UNITS = ("BlockGatingUnit", "GridGatingUnit")


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as file:
        return dict(file)


def network_input(case: dict[str, np.ndarray]) -> np.ndarray:
    """NCHW float32 in [0, 1] from the stored NHWC 8-bit image."""
    return np.ascontiguousarray(
        (case["input_u8"].astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
    )


def parameters(architecture: Architecture, seed: str = SEED) -> dict[str, np.ndarray]:
    """Reference parameters of any architecture, by published path."""
    return {
        path: _leaf(f"{seed}/{path}", path, shape)
        for path, shape in parameter_shapes(architecture).items()
    }


@functools.lru_cache(maxsize=1)
def checkpoint(variant: str) -> Checkpoint:
    """The reference checkpoint of a variant."""
    return random_checkpoint(VARIANTS[variant], name=variant.lower())


def random_checkpoint(architecture: Architecture, name: str = "random") -> Checkpoint:
    """A checkpoint with reference parameters in any size."""
    return Checkpoint(parameters(architecture), architecture, Descriptor(name))


def published(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays under the keys of a published file."""
    return {f"opt/target/{path}": array for path, array in arrays.items()}


def digest(arrays: dict[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for key, array in sorted(published(arrays).items()):
        sha.update(f"{key} {'x'.join(map(str, array.shape))}\n".encode())
        sha.update(np.ascontiguousarray(array).astype("<f4").tobytes())
    return sha.hexdigest()


def _leaf(seed: str, path: str, shape: tuple[int, ...]) -> np.ndarray:
    uniform = np.random.RandomState(zlib.crc32(seed.encode()))
    noise = np.zeros(int(np.prod(shape)))
    for _ in range(12):
        noise += uniform.random_sample(noise.size)
    mean, spread = _mean_and_spread(path, shape)
    return (mean + spread * (noise - 6.0)).astype(np.float32).reshape(shape)


def _mean_and_spread(path: str, shape: tuple[int, ...]) -> tuple[float, float]:
    owner, parent, leaf = ("", *path.split("/"))[-3:]
    mixes_positions = parent.startswith("Dense_") and owner in _GATING_UNITS + _GATING_WEIGHTS
    in_sam = "supervised_attention_module" in owner
    makes_image = "_output_conv_" in parent or (in_sam and parent == "Conv_1")
    if leaf == "scale":
        return 1.0, 0.1
    if leaf == "bias":
        if mixes_positions and owner in _GATING_WEIGHTS:
            return 1.0, 0.05
        return 0.0, 0.01 if makes_image else 0.05
    if mixes_positions:
        return 0.0, 0.02
    is_transposed = parent.startswith("ConvTranspose")
    fan_in = shape[-2] if is_transposed else int(np.prod(shape[:-1]))
    reads_image = "_input_conv_" in parent or (in_sam and parent == "Conv_2")
    gain = (
        0.06 if makes_image else 2.0 if reads_image else 0.5 if _opens_block(owner, parent) else 1.0
    )
    return 0.0, gain / float(np.sqrt(np.float64(fan_in)))


def _opens_block(owner: str, parent: str) -> bool:
    gating = "cross_gating_block" in owner or "input_fuse_sam" in owner
    encoder = "encoder_block" in owner or owner.startswith("UNetEncoderBlock")
    return (
        parent == "input_proj"
        or (gating and parent in ("Conv_0", "Conv_1"))
        or (encoder and parent == "Conv_0")
    )
