from __future__ import annotations

import sys
from pathlib import Path

import pytest

import maxim_deploy
from maxim_deploy.benchmarks.overhead import soak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.mark.extended
def test_a_thousand_calls_of_mixed_sizes_do_not_grow(demo_bundle: Path) -> None:
    with maxim_deploy.load(demo_bundle, backend="onnxruntime") as restorer:
        memory = soak(restorer, 1000)
    assert memory.end <= memory.begin + 20e6
