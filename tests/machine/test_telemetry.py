"""Nothing about a user goes to the maker of ONNX Runtime unless the user says so."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import maxim_deploy
from maxim_deploy._optional import ENVIRONMENT, require
from maxim_deploy.machine.onnxruntime import telemetry
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu

VARIABLE, OFF = ENVIRONMENT["onnxruntime"]


def left_at_home(tmp_path: Path, script: str) -> list[str]:
    """Files that a process with a home of its own leaves in it."""
    pytest.importorskip("onnxruntime")
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=kept | home, check=True)
    return [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_our_import_leaves_nothing_at_home(tmp_path: Path) -> None:
    script = (
        "from maxim_deploy._optional import require; require('onnxruntime', 'cpu').InferenceSession"
    )
    assert left_at_home(tmp_path, script) == []


@pytest.fixture
def stand_in(monkeypatch, tmp_path: Path) -> None:
    """A module of this name that nobody has imported yet, and that remembers the variable."""
    (tmp_path / "onnxruntime.py").write_text(f"import os\nseen = os.environ.get({VARIABLE!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # the real one comes back afterwards
    del sys.modules["onnxruntime"]


@pytest.mark.usefixtures("stand_in")
def test_the_variable_is_set_before_the_import(monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert require("onnxruntime", "cpu").seen == OFF


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("asked", ["0", "", "true"])
def test_what_the_user_has_set_stays(monkeypatch, asked: str) -> None:
    monkeypatch.setenv(VARIABLE, asked)
    assert require("onnxruntime", "cpu").seen == os.environ[VARIABLE] == asked


def test_an_import_of_the_application_stays_and_info_says_so(monkeypatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv(VARIABLE, raising=False)
    require("onnxruntime", "cpu")
    assert VARIABLE not in os.environ
    backend = object.__new__(OnnxRuntimeCpu)
    backend._version, backend.spinning = "1.32.0", True
    (note,) = backend.notes
    assert "imported before maxim-deploy" in note and f"set {VARIABLE}={OFF} before" in note


@pytest.mark.parametrize(
    ("version", "asked", "tells"),
    [("1.32.0", "1", False), ("1.32.0", "Yes", False), ("1.32.0", "0", True),
     ("1.40.1", "", True), ("2.0", "no", True), ("1.31.2", "0", False)],
)  # fmt: skip
def test_who_tells_what(version: str, asked: str, tells: bool) -> None:
    told = telemetry(version, {VARIABLE: asked})
    assert bool(told) == tells
    assert told is None or f"{VARIABLE} is {asked!r}" in told


def test_every_import_goes_through_the_one_door() -> None:
    package = Path(maxim_deploy.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in getattr(node, "names", ()) if hasattr(alias, "name")]
            names.append(getattr(node, "module", None) or "")
            ours = isinstance(node, ast.Import | ast.ImportFrom) and "onnxruntime" in {
                name.partition(".")[0] for name in names
            }
            assert not ours, f"{path}:{node.lineno} imports onnxruntime past `require`"  # type: ignore[attr-defined]
