from __future__ import annotations

import numpy as np

from maxim_deploy.benchmarks.tiles import AROUND, step_of
from maxim_deploy.imaging.tiling import Tiling


def test_steps() -> None:
    tiling = Tiling(64, 256, (64, 128), 0)  # one border, between columns 127 and 128
    error = np.zeros((64, 256, 3))
    assert step_of(error, tiling).largest == 0
    error[:, 128:] = 2 / 255
    error[5, 128:] = 3 / 255
    step = step_of(error, tiling)
    assert np.isclose(step.mean, 2 + 1 / 64) and np.isclose(step.largest, 3)
    assert np.isclose(step.mean_around, 0) and np.isclose(step.largest_around, 0)
    error[:, 128 + AROUND - 1 :] += 4 / 255
    assert np.isclose(step_of(error, tiling).largest_around, 4)
    error[:, 128 + AROUND - 1 :] -= 4 / 255
    error[:, 128 + AROUND + 1 :] += 4 / 255  # too far away
    assert np.isclose(step_of(error, tiling).largest_around, 0)


def test_the_border_that_stands_out_most_counts_not_that_of_the_largest_step() -> None:
    tiling = Tiling(64, 256, (64, 128), 64)  # borders of windows at columns 64, 128 and 192
    error = np.zeros((64, 256, 3))
    error[:, 64:] += 9 / 255
    error[:, 66:] += 9 / 255  # as large, and near
    error[:, 128:] += 3 / 255
    step = step_of(error, tiling)
    assert np.isclose(step.largest, 3) and np.isclose(step.largest_around, 0)
    assert np.isclose(step.mean, 9)  # the other lines around it have none
