"""`maxim-doctor`: what it prints, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import maxim_deploy
from maxim_deploy.cli.doctor import doctor
from maxim_deploy.cli.group import commands
from maxim_deploy.runtime import doctor as room
from maxim_deploy.runtime.doctor import LIBRARIES, Report
from maxim_deploy.runtime.verdict import Verdict


def maxim_doctor(monkeypatch: pytest.MonkeyPatch, *args: str, works: bool = True) -> Result:
    libraries = dict.fromkeys(LIBRARIES)
    verdicts = [Verdict("onnxruntime", works=works), Verdict("tensorrt", reason="because")]
    found = Report("1", "3.11", "Linux", None, None, libraries, [], verdicts)
    monkeypatch.setattr(room, "examine", lambda: found)
    return CliRunner().invoke(doctor, list(args), catch_exceptions=False)


@pytest.mark.parametrize("args", [[], ["--json"]])
@pytest.mark.parametrize("works", [True, False])
def test_the_exit_code_says_whether_any_backend_works(monkeypatch, args: list[str], works: bool):
    result = maxim_doctor(monkeypatch, *args, works=works)
    assert (result.exit_code, result.stderr) == (0 if works else 1, "")


def test_text_and_json_say_the_same(monkeypatch):
    text = maxim_doctor(monkeypatch).stdout
    assert "  onnxruntime       works\n" in text
    assert "  tensorrt          no: because\n" in text
    found = json.loads(maxim_doctor(monkeypatch, "--json").stdout)
    assert [(b["name"], b["works"], b["reason"]) for b in found["backends"]] == [
        ("onnxruntime", True, None),
        ("tensorrt", False, "because"),
    ]
    assert found["gpu"] is None
    assert found["libraries"]["torch"] is None


def test_it_is_a_command_and_a_script_of_its_own():
    help_text = CliRunner().invoke(commands, ["doctor", "--help"]).stdout
    assert "Every backend is tried with a tiny graph." in help_text
    pyproject = Path(maxim_deploy.__file__).parents[1] / "pyproject.toml"
    scripts = tomllib.loads(pyproject.read_text())["project"]["scripts"]
    assert scripts["maxim-doctor"] == "maxim_deploy.cli.main:doctor"


def test_on_this_machine_without_torch_and_onnx():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'PIL']))\n"
        "from maxim_deploy.cli.main import doctor; doctor()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  onnxruntime       works\n" in done.stdout
