"""What tests of reading weights share."""

from __future__ import annotations

import numpy as np

from maxim_deploy.checkpoints import Checkpoint, to_torch, torch_name
from maxim_deploy.spec.architecture import Architecture

TINY = Architecture(features=4, stages=1, groups=1, bottleneck_blocks=1)


def assert_same(checkpoint: Checkpoint, weights: dict[str, np.ndarray]) -> None:
    assert checkpoint.architecture == TINY
    assert checkpoint.arrays.keys() == weights.keys()
    for path, array in checkpoint.arrays.items():
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, weights[path], strict=True)


def as_state_dict(weights):
    return {torch_name(path): to_torch(path, array) for path, array in weights.items()}
