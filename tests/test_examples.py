"""The examples in the docstrings of what applications call, and what two of the guides print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from documentation.pages import blocks

import maxim_deploy
from maxim_deploy.imaging import files
from maxim_deploy.jobs import naming, restore
from maxim_deploy.runtime import loading, registry, restorer


@pytest.mark.parametrize(
    "module", [loading, restorer, registry, files, naming, restore], ids=lambda m: m.__name__
)
def test_the_examples_run(at_home: Path, module) -> None:
    """In a process of its own: `max_memory` counts all that a process has."""
    script = (
        "import doctest, importlib, sys\n"
        "module = importlib.import_module(sys.argv[1])\n"
        "failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)\n"
        "sys.exit(failed or not tried)"
    )
    command = [sys.executable, "-c", script, module.__name__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_from_python(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, example, _ = blocks("docs/guides/embed-in-python.md", "python")
    exec(example, {})
    assert capsys.readouterr().out == "photos/a.jpg restored restored/a.png\n"
    assert sorted(path.name for path in Path("restored").iterdir()) == [".maxim-run.jsonl", "a.png"]
    assert Path("sharp.webp").exists() and Path("dark.png").exists()


def test_a_service(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_asyncio, in_threads = blocks("docs/guides/threads-and-asyncio.md", "python")
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
