"""A small network, its input, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import reference
import torch
from parity.networks import SMALL

from maxim_deploy.model import Maxim, module_from_checkpoint
from maxim_deploy.parity.pictures import Sample, own_samples


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def literal() -> Maxim:
    return module_from_checkpoint(reference.random_checkpoint(SMALL))


@pytest.fixture
def sample() -> Sample:
    """A photograph of 64x64."""
    return own_samples((64, 64))[0]


@pytest.fixture
def batch(sample: Sample) -> np.ndarray:
    image = sample.pixels.astype(np.float32) / 255
    return np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis])
