"""Names of stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxim_deploy.parity.stages import SIMULATED, bundle_stages, open_stage, split_name
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.precision import LOW


@pytest.mark.parametrize(
    ("name", "path", "stage"),
    [
        ("build/demo:fp16", "build/demo", "fp16"),
        ("build/demo", "build/demo", ""),
        ("a:b/demo:literal", "a:b/demo", "literal"),
        ("a:b/demo", "a:b/demo", ""),
        ("build/demo:fp16.simulated", "build/demo", "fp16.simulated"),
        ("build/demo:fp16.twin", "build/demo", "fp16.simulated"),
        ("bf16.tensor.onnx:twin", "bf16.tensor.onnx", "simulated"),
        ("build/twin", "build/twin", ""),
        ("build/demo:twinned", "build/demo", "twinned"),
    ],
)
def test_a_name_has_a_path_and_a_stage(name: str, path: str, stage: str) -> None:
    assert split_name(name) == (Path(path), stage)


def test_a_simulated_stage_for_each_low_precision(demo_bundle: Path) -> None:
    assert tuple(f"{low}.simulated" for low in LOW) == SIMULATED
    assert "fp16.simulated" in bundle_stages(Bundle.open(demo_bundle))


def test_the_older_name_opens_the_same_stage(demo_bundle: Path) -> None:
    for start in (f"{demo_bundle}:fp16.", f"{demo_bundle / 'fp16.tensor.onnx'}:"):
        old = f"{start}twin"
        one, other = open_stage(old), open_stage(f"{start}simulated")
        assert one.name == old and one.facts == other.facts
        assert one.facts["simulated"] is one.facts["twin"] is True
