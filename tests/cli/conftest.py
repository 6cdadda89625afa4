"""A network that is none, and a folder to run in."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.running import Inverter

from maxim_deploy import runtime


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Inverter:
    inverter = Inverter()
    monkeypatch.setattr(runtime, "load", inverter.load)
    return inverter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, so that tests use relative names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
