"""What records say of the machine and the software."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from maxim_deploy._optional import installed_version
from maxim_deploy.machine import facts
from maxim_deploy.machine.facts import (
    environment,
    library_versions,
    machine_of,
)


def test_the_environment_names_the_machine_but_not_its_owner() -> None:
    import getpass
    import platform

    found = environment()
    assert set(found) == {
        "cpu", "cpu_id", "cpus", "ram_bytes", "os", "python", "libraries", "load_average_1m",
        "gpu", "commit",
    }  # fmt: skip
    assert {"maxim-deploy", "numpy"} <= set(found["libraries"])
    text = json.dumps(found)
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert platform.node() not in text or platform.node() in ("", "Linux")
    assert getpass.getuser() in ("root",) or getpass.getuser() not in text


def test_a_machine_in_words() -> None:
    assert machine_of({"cpu": "Z80", "cpus": 2}) == "Z80 x 2"
    facts = {"cpu": "Z80", "cpu_id": "Zilog 8", "cpus": 2, "gpu": {"name": "NVIDIA L4"}}
    assert machine_of(facts) == "Z80 (Zilog 8) x 2 and NVIDIA L4"
    assert machine_of({"cpu": None, "cpus": None}) == "unknown CPU x None"


def test_only_a_commit_of_our_own_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package lies in an environment, which often lies in somebody's checkout."""
    package = tmp_path / ".venv" / "maxim_deploy"
    package.mkdir(parents=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "secret"], check=True)
    monkeypatch.setattr(facts, "_PACKAGE", package)
    assert environment()["commit"] is None
    monkeypatch.setattr(facts, "_PACKAGE", tmp_path / "maxim_deploy")
    (tmp_path / "maxim_deploy").mkdir()
    assert len(environment()["commit"]) == 40


def test_versions_by_the_name_that_pip_knows() -> None:
    assert installed_version("numpy") == np.__version__
    assert installed_version("no-such-package") is None
    assert "no-such-package" not in library_versions()
