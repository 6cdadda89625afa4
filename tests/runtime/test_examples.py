"""The examples in the docstrings of what applications call, as they stand there."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest

import maxim_deploy
from maxim_deploy.runtime import loading, registry, restorer


@pytest.fixture
def at_home(demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the bundle that the examples name."""
    shutil.copytree(demo_bundle, tmp_path / "build" / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize("module", [loading, restorer, registry], ids=lambda m: m.__name__)
def test_the_examples_run(at_home: None, module) -> None:
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0 and tried > 0


def test_everything_public_has_one() -> None:
    documented = [maxim_deploy.load, maxim_deploy.Restorer, maxim_deploy.Restorer.__call__] + [
        getattr(maxim_deploy.Restorer, name) for name in ("batch", "submit", "warmup", "plan")
    ]
    assert [one.__qualname__ for one in documented if ">>> " not in (one.__doc__ or "")] == []
