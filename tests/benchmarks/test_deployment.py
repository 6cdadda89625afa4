from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from maxim_deploy.benchmarks.deployment import main

from maxim_deploy.benchmarks import comparison
from maxim_deploy.benchmarks.records import read_records
from maxim_deploy.benchmarks.subjects import random_checkpoint, subject_file
from maxim_deploy.checkpoints import parameter_shapes
from maxim_deploy.errors import BackendError
from maxim_deploy.spec.architecture import Architecture

TINY = Architecture(features=4, stages=1, groups=1, bottleneck_blocks=1)
SUITE = """
[deployment]
architecture = { features = 4, stages = 1, groups = 1, bottleneck_blocks = 1 }
subjects = ["pytorch", "literal", "deployment"]
size = "64x64"
memory_size = "128x64"
rounds = 5
warmup = 1
pause_s = 0.01
"""


@pytest.mark.slow
def test_the_suite_end_to_end(tmp_path: Path) -> None:
    suite, output, cache = tmp_path / "s.toml", tmp_path / "r.jsonl", tmp_path / "cache"
    suite.write_text(SUITE)
    result = CliRunner().invoke(main, [str(suite), "-o", str(output), "--cache", str(cache)])
    assert result.exit_code == 0, result.stderr
    assert "| deployment |" in result.stdout
    assert "deployment: timing 5 rounds" in result.stderr

    records = {record.subject: record for record in read_records(output)}
    assert set(records) == {"pytorch", "literal", "deployment"}
    assert len({record.run for record in records.values()}) == 1
    for record in records.values():
        assert len(record.time["seconds"]) == 5
        assert record.agreement["with"] == "pytorch"
        assert record.environment["libraries"]["torch"]
    eager, literal, ours = (records[name] for name in ("pytorch", "literal", "deployment"))
    assert eager.graph is None
    assert eager.memory is None
    assert literal.graph is not None
    assert ours.graph is not None
    assert ours.graph["transposes"] < literal.graph["transposes"]
    assert ours.graph["live_bytes_per_pixel"] < literal.graph["live_bytes_per_pixel"]
    assert ours.memory is not None
    assert ours.memory["size"] == [128, 64]

    # A second run would find every file in the cache.
    made = sorted(cache.rglob("*.*"))
    for subject in records:
        assert subject_file(subject, TINY, cache).is_file()
    assert sorted(cache.rglob("*.*")) == made


def test_weights_are_complete_ordinary_and_the_same_every_time() -> None:
    arrays, again = random_checkpoint(TINY).arrays, random_checkpoint(TINY).arrays
    assert {path: array.shape for path, array in arrays.items()} == parameter_shapes(TINY)
    for path, array in arrays.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again[path])
        if path.endswith("scale"):
            assert (array == 1).all()


class FakeWorker:
    """Stands for a process whose result is one number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def run(self) -> float:
        return 1.0

    def save(self, file: Path) -> None:
        np.save(file, np.full((2, 2), self.value, np.float32))


def errors(**values: float) -> dict[str, float]:
    workers = {name: FakeWorker(value) for name, value in values.items()}
    return comparison._errors(workers, "literal")  # type: ignore[arg-type]


def test_agreement_is_with_the_first_subject() -> None:
    found = errors(literal=0.5, deployment=0.50001)
    assert found["literal"] == 0
    assert found["deployment"] == pytest.approx(1e-5, rel=0.01)


@pytest.mark.parametrize("value", [0.501, float("nan")])
def test_subjects_that_disagree_are_not_compared(value: float) -> None:
    with pytest.raises(BackendError, match="deployment differs from literal by .*0.0001 is allow"):
        errors(literal=0.5, deployment=value)


def test_bad_suites_and_plans_are_usage_errors(tmp_path: Path) -> None:
    suite = tmp_path / "s.toml"
    suite.write_text(SUITE)
    result = CliRunner().invoke(main, [str(suite), "--ablation"])
    assert result.exit_code == 2
    assert "has no plan [ablation]; it has ['deployment']" in result.stderr
    result = CliRunner().invoke(main, [str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: suite ")
    assert result.stdout == ""
