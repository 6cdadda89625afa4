"""`maxim-deploy accept`: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from accept.samples import ON_CPU, ON_GPU
from bundles import write_identity_bundle
from cli.commands import command
from click.testing import CliRunner, Result

from maxim_deploy.accept import models, runner
from maxim_deploy.accept.plan import STEPS
from maxim_deploy.accept.record import Record, read_record
from maxim_deploy.accept.runner import Machine
from maxim_deploy.cli.group import commands
from maxim_deploy.machine.gpu import find_gpu


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the room was asked for; it answers with `record`."""
    found: dict[str, object] = {"record": ON_CPU, "machine": Machine({}, 0)}

    def accept(models, machine, *, only, limit_s: float, tell) -> Record:
        found.update(models=[one.name for one in models], only=only, limit_s=limit_s)
        record = found["record"]
        assert isinstance(record, Record)
        for count in range(1, len(record.outcomes) + 1):
            tell(replace(record, outcomes=record.outcomes[:count]))
        return record

    monkeypatch.setattr(runner, "accept", accept)
    monkeypatch.setattr(runner, "machine_at_hand", lambda: found["machine"])
    return found


def accepted(*args: object) -> Result:
    return CliRunner().invoke(commands, ["accept", *map(str, args)], catch_exceptions=False)


def test_a_line_per_step_and_the_record(asked, tmp_path: Path) -> None:
    result = accepted("-o", tmp_path / "a.json")
    assert result.stdout.splitlines() == [str(outcome) for outcome in ON_CPU.outcomes]
    assert result.stderr == "3 passed, 0 failed, 1 could not run\n"
    assert result.exit_code == 0 and read_record(tmp_path / "a.json") == ON_CPU
    assert (asked["models"], asked["only"], asked["limit_s"]) == (["demo-denoise"], (), 1200)


def test_a_failure_is_exit_code_1_and_the_record_is_written(asked, tmp_path: Path) -> None:
    asked["record"] = ON_GPU
    result = accepted("-o", tmp_path / "a.json")
    assert result.exit_code == 1 and read_record(tmp_path / "a.json") == ON_GPU
    assert "3 passed, 1 failed, 0 could not run" in result.stderr


def test_a_file_that_cannot_be_written_is_said_at_once(asked, tmp_path: Path) -> None:
    result = accepted("-o", tmp_path / "no folder" / "a.json")
    assert result.exit_code == 2 and "cannot be written" in result.stderr
    assert result.stdout.splitlines() == [str(ON_CPU.outcomes[0])]


def test_json_is_the_record_alone(asked) -> None:
    result = accepted("--json")
    assert json.loads(result.stdout) == json.loads(ON_CPU.to_json())
    assert "passed         demo-denoise  onnxruntime  load" in result.stderr


def test_the_large_network(asked) -> None:
    for gpus, options, names in (
        (0, [], 1), (1, [], 2), (0, ["--s2"], 2),
    ):  # fmt: skip
        asked["machine"] = Machine({}, gpus)
        accepted(*options)
        assert len(asked["models"]) == names


def test_options(asked, tmp_path: Path) -> None:
    bundle = write_identity_bundle(tmp_path / "bundle")
    accepted(bundle, "--only", "load", "--only", "kill", "--time-limit", "90s")
    assert (asked["models"], asked["only"], asked["limit_s"]) == (["tiny"], ("load", "kill"), 90)


@pytest.mark.parametrize(
    "args, code, why",
    [
        (["--only", "lod"], 2, "unknown step 'lod' (did you mean 'load'?)"),
        (["--time-limit", "soon"], 2, "--time-limit must be an amount"),
        (["nothing"], 1, "'nothing'"),
    ],
)
def test_usage(asked, folder: Path, args: list[str], code: int, why: str) -> None:
    result = accepted(*args)
    assert result.exit_code == code and why in result.stderr


def test_the_list(asked, monkeypatch) -> None:
    monkeypatch.setattr(runner, "machine_at_hand", lambda: pytest.fail("--list looks at nothing"))
    result = accepted("--list")
    assert [line.split()[0] for line in result.stdout.splitlines()] == [one.name for one in STEPS]


@pytest.mark.slow
def test_on_this_machine(tmp_path: Path) -> None:
    bundle = write_identity_bundle(tmp_path / "bundle")
    done = command("main", "accept", bundle, "--only", "load", "-o", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    record = read_record(tmp_path / "a.json")
    found = {one.backend: one.outcome for one in record.outcomes if one.step == "load"}
    assert found["onnxruntime"] == found["openvino"] == "passed" and len(found) == 6
    assert models.LARGE not in {one.model for one in record.outcomes}


@pytest.mark.gpu
@pytest.mark.extended
def test_on_a_gpu(demo_bundle: Path, tmp_path: Path) -> None:
    if find_gpu() is None:
        pytest.skip("no NVIDIA GPU or driver here")
    done = command("main", "accept", demo_bundle, "-o", tmp_path / "a.json")
    assert done.returncode == 0, done.stdout
    assert read_record(tmp_path / "a.json").seconds < 20 * 60
