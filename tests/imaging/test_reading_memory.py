"""Memory of reading: a picture, and little beside it."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from imaging.samples import exif_with, saved
from machine.children import run
from PIL import Image

from maxim_deploy.imaging.files import read_image, read_image_size

PEAK = """
import json, sys
from maxim_deploy.imaging.files import read_image
from maxim_deploy.machine.memory import forget_peak, peak_resident_bytes, resident_bytes
read_image(sys.argv[1])  # imports, and what libraries keep
forget_peak()
before = resident_bytes()
picture = read_image(sys.argv[2])
size = picture.rgb.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
print(json.dumps((peak_resident_bytes() - before) / size))
"""


def photograph(mode: str = "RGB", size: tuple[int, int] = (3000, 2000)) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR).convert(mode)


@pytest.mark.skipif(sys.platform != "linux", reason="its peak can be forgotten nowhere else")
@pytest.mark.parametrize(
    ("name", "mode", "orientation", "times"),
    [
        ("a.jpg", "RGB", 1, 1.7),
        ("a.jpg", "RGB", 6, 2.2),
        ("a.png", "RGBA", 6, 2.2),
    ],
)
def test_reading_takes_little_more_than_the_pixels(tmp_path, name, mode, orientation, times):
    options = {"exif": exif_with({0x0112: orientation}), "compress_level": 1}
    path = saved(tmp_path / name, photograph(mode), **options)
    first = saved(tmp_path / f"first{path.suffix}", photograph(mode, (64, 64)))
    assert float(str(run(PEAK, first, path))) < times


def test_what_is_read_owns_no_more_than_its_pixels(tmp_path: Path):
    path = saved(tmp_path / "a.png", photograph(size=(600, 400)))
    tracemalloc.start()
    picture = read_image(path)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert picture.rgb.flags.writeable and picture.rgb.flags.c_contiguous
    assert held < 1.1 * picture.rgb.nbytes


def test_the_size_is_read_without_the_pixels(tmp_path: Path):
    path = saved(tmp_path / "a.jpg", photograph(), exif=exif_with({0x0112: 6}))
    tracemalloc.start()
    assert read_image_size(path) == (3000, 2000)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
