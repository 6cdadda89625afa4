"""The examples in the docstrings of what applications call, and in the README, as they stand."""

from __future__ import annotations

import doctest
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import maxim_deploy
from maxim_deploy.imaging import files
from maxim_deploy.jobs import naming, restore
from maxim_deploy.runtime import loading, registry, restorer

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def at_home(demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the bundle and the files that the examples name."""
    shutil.copytree(demo_bundle, tmp_path / "build" / "demo")
    (tmp_path / "photos").mkdir()
    for name in ("photos/a.jpg", "photo.jpg"):
        Image.new("RGB", (64, 48), (80, 90, 100)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize(
    "module", [loading, restorer, registry, files, naming, restore], ids=lambda m: m.__name__
)
def test_the_examples_run(at_home: None, module) -> None:
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0 and tried > 0


def test_files_from_python_in_the_readme(at_home: None, capsys: pytest.CaptureFixture[str]):
    section = README.read_text().split("### Files from Python")[1].split("\n#")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out == "photos/a.jpg restored restored/a.png\n"
    assert sorted(path.name for path in Path("restored").iterdir()) == [".maxim-run.jsonl", "a.png"]
    assert Path("sharp.webp").exists() and Path("dark.png").exists()


def test_a_service_in_the_readme(at_home: None, capsys: pytest.CaptureFixture[str]):
    section = README.read_text().split("### In a service\n")[1].split("\n##")[0]
    in_asyncio, in_threads = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(in_asyncio, {})
    assert capsys.readouterr().out == "[(48, 64, 3), (48, 64, 3), (48, 64, 3)]\nTrue\n"
    exec(in_threads, {})
    assert capsys.readouterr().out.splitlines() == [
        "[(48, 64, 3), (48, 64, 3), (48, 64, 3)]",
        "1 of 1",
        "(600, 600, 3)",
    ]


METHODS = ("batch", "submit", "warmup", "plan", "trim")


def test_everything_public_has_one() -> None:
    documented = [
        *(maxim_deploy.load, maxim_deploy.Restorer, maxim_deploy.Restorer.__call__),
        *(
            getattr(maxim_deploy.Restorer, name)
            for name in ("batch", "submit", "warmup", "plan", "trim")
        ),
        *(maxim_deploy.read_image, maxim_deploy.write_image, maxim_deploy.read_size),
        *(maxim_deploy.plan_files, maxim_deploy.restore_file, maxim_deploy.restore_files),
    ]
    assert [one.__qualname__ for one in documented if ">>> " not in (one.__doc__ or "")] == []
