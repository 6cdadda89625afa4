from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from maxim_deploy.benchmarks.tiles import AROUND, main, step_of
from maxim_deploy.imaging.tiling import Tiling

PHOTO = Path(__file__).parents[2] / "maxim_deploy" / "assets" / "chelsea.png"


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


def test_the_table(demo_bundle: Path, tmp_path: Path) -> None:
    with Image.open(PHOTO) as photo:
        photo.crop((100, 60, 356, 188)).save(tmp_path / "a.png")
        photo.crop((0, 0, 100, 90)).save(tmp_path / "b.png")
    options = ["--tile", "128", "--overlap", "0", "--overlap", "64", "--overlap", "128"]
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    result = CliRunner().invoke(main, [str(demo_bundle), *paths, *options])
    assert result.exit_code == 0, result.stderr
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in result.stdout.splitlines()]
    assert [row[:2] for row in rows[2:]] == [["128", "0"], ["128", "64"]]  # 128 is too much
    quality = [float(row[2].split(", ")[0]) for row in rows[2:]]
    assert 35 < quality[0] < quality[1] < 60
    for row, shows in zip(rows[2:], (True, False), strict=True):
        border, around = (float(number) for number in row[4].split(", ")[0].split(" / "))
        assert (border > around + 1) == shows
        assert [cell.split(", ")[1] for cell in row[2:]] == ["-"] * 4  # it is one tile


def test_no_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path), str(PHOTO)])
    assert result.exit_code == 1 and "is not a bundle" in result.stderr
