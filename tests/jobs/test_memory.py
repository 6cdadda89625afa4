"""How many images are in memory while the network runs on one."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
from inverter import Inverter, picture

from maxim_deploy import ImageTooLargeError, restore_files
from maxim_deploy.imaging import files
from maxim_deploy.imaging.limits import bytes_to_restore
from maxim_deploy.jobs.job import WRITE_FACTOR

PIXELS = 60 * 40
READING, WRITING = bytes_to_restore(40, 60), WRITE_FACTOR * 3 * PIXELS


@pytest.fixture
def in_memory(monkeypatch) -> weakref.WeakValueDictionary:
    """The pictures that were read and are still held."""
    held: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
    read = files.read_image

    def reading(path: Path, **options: object) -> object:
        found = held[path] = read(path, **options)
        return found

    monkeypatch.setattr(files, "read_image", reading)
    return held


def restored(inverter: Inverter, **options: object) -> list[str | None]:
    for name in "abc":
        picture(f"in/{name}.png", size=(60, 40))
    return [result.error for result in restore_files(inverter, "in", "out", **options)]


@pytest.mark.parametrize("room", [0, READING - 1])
def test_files_wait_where_two_do_not_fit(folder, inverter, in_memory, room: int) -> None:
    inverter.room = room
    held = []
    inverter.on_call = lambda _: held.append(len(in_memory))
    assert restored(inverter) == [None] * 3
    assert held == [1, 1, 1]


def test_what_is_written_counts_as_well(folder, inverter, in_memory) -> None:
    inverter.room = READING
    asked = []
    has_room = inverter.has_room
    inverter.has_room = lambda size, *at, **how: asked.append(size) or has_room(size, *at, **how)
    assert restored(inverter) == [None] * 3
    # Of the second: both do not fit, so the first is written before, and the third read ahead.
    assert asked == [READING, READING + WRITING, READING, WRITING]


def test_a_comparison_takes_more_to_write(folder, inverter) -> None:
    asked = []
    inverter.has_room = lambda size, *_, **__: asked.append(size) or True
    assert restored(inverter, compare=True) == [None] * 3
    assert READING + 3 * WRITING in asked


def test_the_header_says_what_reading_takes(folder) -> None:
    assert files.bytes_to_read(picture("a.png", size=(60, 40))) == READING
    Path("b.tif").write_bytes(b"no image")
    assert files.bytes_to_read(Path("b.tif")) == 8 and files.bytes_to_read(Path("none.png")) == 0


def test_one_that_never_fits_fails_alone(folder, inverter) -> None:
    inverter.room = 0

    def refuse(image: np.ndarray) -> None:
        if len(image) > 40:
            raise ImageTooLargeError("not even tiles fit")

    inverter.on_image = refuse
    picture("in/big.png", size=(60, 50))
    (error,) = filter(None, restored(inverter))
    assert error == "image 'in/big.png' | not even tiles fit"
