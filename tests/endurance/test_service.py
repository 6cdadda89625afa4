"""A service in little; `service.py` beside this is the same at length."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from endurance.service import Endurance, open_files
from runtime.fakes import Stoppable, restorer_of

from maxim_deploy.runtime.turns import Turn


class Hasty(Stoppable):
    """Takes a millisecond, or less if it is stopped; lets small pictures pass."""

    lets_pass = True

    def __init__(self, **options) -> None:
        super().__init__(let_go=True, **options)

    def run(self, image: np.ndarray, turn: Turn | None = None) -> np.ndarray:
        time.sleep(0.001)
        return super().run(image, turn)


@pytest.mark.parametrize("lanes", [1, 3])
def test_random_operations_of_16_threads(lanes: int) -> None:
    before = threading.active_count(), open_files()
    with restorer_of(Hasty(lanes=lanes), queue=24, tile=128) as restorer:
        endurance = Endurance(restorer, tolerance=1e-5)
        endurance.run(500, 16, seed=lanes)
    assert endurance.faults == []
    assert sum(endurance.counts.values()) == 500
    assert {"cancel: cancelled", "deadline: DeadlineError"} < set(endurance.counts)
    assert (threading.active_count(), open_files()) == before


@pytest.mark.extended
def test_ten_thousand_on_the_demo_model(demo_bundle: Path) -> None:
    script = Path(__file__).with_name("service.py")
    found = subprocess.run(
        [sys.executable, str(script), str(demo_bundle)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
