"""What all tests of jobs share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from inverter import Inverter


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def inverter() -> Inverter:
    """A restorer that is loaded."""
    return Inverter()
