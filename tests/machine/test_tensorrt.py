"""TensorRT's two libraries behind one door."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maxim_deploy.errors import MissingDependencyError, UsageError
from maxim_deploy.machine.tensorrt import collecting_logger, load_library, type_name, version_of
from maxim_deploy.spec.engine_libraries import ENGINE_LIBRARIES


def test_the_names_of_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"unknown engine library 'rtx'.*known: tensorrt, tensor"):
        load_library("rtx")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.9.0"))
    with pytest.raises(MissingDependencyError, match=r"tensorrt 10\.9\.0 is too old.*--upgrade"):
        load_library("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__version__="1.3.9"))
    with pytest.raises(
        MissingDependencyError, match=r"tensorrt-rtx 1\.3\.9 .*expected 1\.4 or newer"
    ):
        load_library("tensorrt-rtx")


@pytest.mark.parametrize("name", ENGINE_LIBRARIES)
def test_the_extra_installs_the_oldest_version_at_least(name: str) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    library = ENGINE_LIBRARIES[name]
    oldest = ".".join(map(str, library.oldest))
    assert f"{name}>={oldest}" in project["project"]["optional-dependencies"][library.extra]


def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    new = SimpleNamespace(__version__="10.12.0.36")
    assert version_of(new) == (10, 12, 0, 36)
    monkeypatch.setitem(sys.modules, "tensorrt", new)
    assert load_library("tensorrt") is new
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'maxim-deploy\[tensorrt\]'"):
        load_library("tensorrt")


def test_types_are_named_as_numpy_does() -> None:
    names = [type_name(SimpleNamespace(name=name)) for name in ("FLOAT", "HALF", "BF16", "UINT8")]
    assert names == ["float32", "float16", "bfloat16", "uint8"]


def test_a_logger_keeps_what_is_said() -> None:
    logger: Any = collecting_logger(SimpleNamespace(ILogger=object))
    logger.log(SimpleNamespace(name="ERROR"), "it broke")
    logger.log(SimpleNamespace(name="INFO"), "by the way")
    assert logger.messages == [("ERROR", "it broke"), ("INFO", "by the way")]
