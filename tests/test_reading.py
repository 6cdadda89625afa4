"""Files of text from anybody: pipes, endless ones, a thousand brackets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maxim_deploy._reading import load_json, read_bounded
from maxim_deploy.checkpoints import read_checkpoint
from maxim_deploy.errors import MaximDeployError, UsageError, nearest, shown
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.decoding import decoded, read_toml
from maxim_deploy.spec.recipes import read_export_recipe


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("read", [read_checkpoint, read_export_recipe])
def test_a_pipe_and_a_device_are_refused_unopened(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(MaximDeployError, match="pipe or a device"):
            read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(MaximDeployError, match="pipe or a device"):
        Bundle.open(tmp_path)


def test_the_size_of_a_file_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    assert read_bounded(tmp_path / "a", 11) == bytes(11)
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_bounded(tmp_path / "a", 10)


@pytest.mark.parametrize("depth", [60, 5000, 200_000])
def test_json_that_nests_too_deeply(depth: int) -> None:
    assert load_json("[" * 40 + "]" * 40)
    with pytest.raises(ValueError, match="nest"):
        load_json("[" * depth + "]" * depth)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000 + "]" * 5000, "a = " + "{a=" * 3000 + "1" + "}" * 3000,
     "a." * 900 + "a = 1", "[" + "a." * 60 + "a]", "a = " + "1" * 5000],
    ids=["lists", "tables", "dots", "depth", "digits"],
)  # fmt: skip
def test_toml_that_nests_too_deeply(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match="recipe"):
        read_toml(tmp_path / "a.toml", "recipe", dict)


def test_an_integer_that_no_float_can_hold() -> None:
    assert decoded(float, 2**60) == 2**60
    with pytest.raises(TypeError, match="at most 64 bits"):
        decoded(float, 10**400)


def test_messages_are_short() -> None:
    assert shown("a") == "'a'"
    assert len(shown("x" * 10**6)) < 300
    assert nearest("x" * 10**5, ["x" * 10**5]) == ""
