"""Damaged files end in an error that names them, soon and in little memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing.readers import READERS
from fuzzing.runs import Reader, run

QUICK, MANY = 100, 2000

pytest.importorskip("av")
pytest.importorskip("imagecodecs")


def found(reader: Reader, folder: Path, numbers: range) -> dict[str, list[int]]:
    return run(reader, folder, numbers).findings


@pytest.mark.parametrize("name", [x.name for x in READERS.values() if not x.is_slow])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    assert found(READERS[name], tmp_path, range(QUICK)) == {}


@pytest.mark.extended
@pytest.mark.parametrize("name", [*READERS])
def test_many_damaged_files(name: str, tmp_path: Path) -> None:
    many = 200 if READERS[name].is_slow else MANY
    assert found(READERS[name], tmp_path, range(QUICK, many)) == {}
