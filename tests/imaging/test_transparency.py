"""Hidden pixels: what stands for them in the network, and that they come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from inverter import Inverter
from PIL import Image

from maxim_deploy.imaging import transparency
from maxim_deploy.imaging.files import read_image, write_image
from maxim_deploy.imaging.picture import Picture
from maxim_deploy.imaging.transparency import filled, put_back_hidden
from maxim_deploy.jobs.restore import restore_file

Y, X = np.mgrid[:40, :60]
MASKS = {
    "disc": np.hypot(Y - 20, X - 30) < 15,
    "ring": np.abs(np.hypot(Y - 20, X - 30) - 12) < 3,
    "side": X < 20,
    "corner": (X > 55) & (Y > 35),
    "one pixel": (X == 7) & (Y == 31),
    "stripes": X % 9 < 2,
    "dust": np.random.default_rng(0).random((40, 60)) < 0.1,
    "all but one": (X != 7) | (Y != 31),
}


def one_row(levels: list[int]) -> np.ndarray:
    """[1, N, 3]; 0 is hidden."""
    return np.repeat(np.uint8([levels])[..., np.newaxis], 3, axis=2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 2, 3, 0, 0], [1, 2, 3, 3, 2]),
        ([0, 0, 1, 2, 3], [2, 1, 1, 2, 3]),
        ([1, 2, 0, 0, 0, 0, 0], [1, 2, 2, 1, 1, 2, 2]),
        ([0, 0, 0, 0, 9, 0], [9, 9, 9, 9, 9, 9]),
        ([1, 2, 0, 0, 0, 0, 3, 4], [1, 2, 2, 1, 4, 3, 3, 4]),
        ([0, 5, 6, 0, 7, 0], [5, 5, 6, 6, 7, 7]),
    ],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_a_row_is_mirrored_at_the_ends_of_what_is_seen(before, after, is_turned: bool) -> None:
    rgb, expected = one_row(before), one_row(after)
    if is_turned:
        rgb, expected = rgb.swapaxes(0, 1), expected.swapaxes(0, 1)
    assert np.array_equal(filled(np.ascontiguousarray(rgb), rgb[..., 0]), expected)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("strip", [7, 256])
def test_every_shape_is_filled_from_what_is_seen(monkeypatch, name: str, dtype, strip: int) -> None:
    monkeypatch.setattr(transparency, "_STRIP", strip)
    visible = MASKS[name]
    # Every visible pixel has a colour of its own, and no hidden one has any of these.
    rgb = np.zeros((*visible.shape, 3), dtype)
    numbers = np.arange(1, visible.sum() + 1)
    rgb[visible] = np.stack([numbers % 250 + 1, numbers // 250 + 1, numbers * 0 + 7], axis=-1)
    before = rgb.copy()
    out = filled(rgb, visible.astype(dtype))
    assert np.array_equal(rgb, before)
    assert np.array_equal(out[visible], rgb[visible])
    assert set(map(tuple, out[~visible])) <= set(map(tuple, rgb[visible]))


def test_nothing_is_copied_if_there_is_nothing_to_fill() -> None:
    rgb = one_row([1, 2])
    assert filled(rgb, None) is rgb
    assert filled(rgb, np.uint8([[1, 255]])) is rgb
    assert filled(rgb, np.uint8([[0, 0]])) is rgb


def test_hidden_pixels_are_put_back_and_translucent_ones_are_not() -> None:
    restored = one_row([9, 9, 9])
    put_back_hidden(restored, one_row([1, 2, 3]), np.uint8([[0, 1, 255]]))
    assert restored[0, :, 0].tolist() == [1, 9, 9]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_the_network_sees_no_hidden_colour_and_the_result_has_it(
    tmp_path: Path, suffix: str
) -> None:
    visible = MASKS["disc"]
    rgb = np.where(visible[..., np.newaxis], np.uint8(200), np.uint8(3)).repeat(1, axis=2)
    rgb = np.broadcast_to(rgb, (40, 60, 3)).copy()
    alpha = np.where(visible, np.uint8(128), np.uint8(0))
    write_image(tmp_path / "a.png", rgb, like=Picture(rgb, alpha))
    network, seen = Inverter(), []
    network.on_image = lambda image: seen.append(image.copy())
    restore_file(network, tmp_path / "a.png", tmp_path / f"b{suffix}", compare=True)
    assert (seen[0] == 200).all()
    back = read_image(tmp_path / f"b{suffix}")
    assert np.array_equal(back.alpha, alpha)
    assert (back.rgb[visible] == 55).all()
    assert (back.rgb[~visible] == 3).all()


def test_what_stands_below_transparency_does_not_matter_to_what_is_seen(
    tmp_path: Path, network: Inverter
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    alpha = (MASKS["ring"] * 255).astype(np.uint8)
    seen: list[np.ndarray] = []
    network.on_image = lambda image: seen.append(image.copy())
    for hidden in (0, 255, 255 - noise):
        rgb = np.where(alpha[..., np.newaxis] > 0, noise, np.uint8(hidden))
        Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "a.png")
        restore_file(network, tmp_path / "a.png", tmp_path / "b.png")
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])
