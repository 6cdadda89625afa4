from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import maxim_deploy
from maxim_deploy.benchmarks.overhead import main, soak

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def test_the_suite(demo_bundle: Path) -> None:
    options = ["--side", "64", "--rounds", "5", "--soak", "10"]
    result = CliRunner().invoke(main, [str(demo_bundle), *options])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("- Time of a call over the bare backend, 64x64 uint8: ")
    assert lines[1].startswith("- Time per image with 4 threads over one: ")
    assert lines[2].startswith("- Resident over 10 calls of mixed sizes: ")


@pytest.mark.extended
def test_a_thousand_calls_of_mixed_sizes_do_not_grow(demo_bundle: Path) -> None:
    with maxim_deploy.load(demo_bundle, backend="onnxruntime") as restorer:
        memory = soak(restorer, 1000)
    assert memory.end <= memory.begin + 20e6


def test_no_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 1 and "is not a bundle" in result.stderr
