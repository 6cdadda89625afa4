"""Where files of ours are kept, with and without the library that knows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from maxim_deploy.errors import MissingDependencyError
from maxim_deploy.machine.cache import cache_folder


def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert cache_folder() == tmp_path
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", "~/x")
    assert cache_folder() == Path.home() / "x"


def test_the_users_folder_and_who_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAXIM_DEPLOY_CACHE")
    assert "maxim-deploy" in cache_folder().parts
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(MissingDependencyError, match="platformdirs is not installed; run: pip"):
        cache_folder()
