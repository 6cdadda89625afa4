"""`maxim-run`: sub-folders, patterns, before/after pictures, and files of 16 bits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cli.running import Inverter, files, maxim_run, picture
from PIL import Image

from maxim_deploy.imaging.files import Picture, read_image, write_image

# Sub-folders


def test_sub_folders_on_request_and_the_same_below_the_output(folder: Path, network: Inverter):
    for name in ("a.png", "x/b.jpg", "x/y/a.png", ".hidden/c.png", "x/.d.png"):
        picture(f"in/{name}")
    Path("in/x/notes.txt").touch()
    result = maxim_run("in", "-o", "out", "--recursive")
    assert result.exit_code == 0
    assert result.stdout.split() == ["out/a.png", "out/x/b.png", "out/x/y/a.png"]
    assert "skipped 1 of other suffixes" in result.stderr
    assert maxim_run("in", "-o", "flat").stdout.split() == ["flat/a.png"]


def test_earlier_results_below_an_input_are_no_inputs(folder: Path, network: Inverter):
    picture("in/a.png")
    picture("in/x/b.png")
    for _ in range(2):
        result = maxim_run("in", "-o", "in/restored", "--recursive")
        assert result.stdout.split() == ["in/restored/a.png", "in/restored/x/b.png"]


def test_links_to_folders_are_not_followed(folder: Path, network: Inverter):
    picture("in/x/a.png")
    Path("in/x/loop").symlink_to("..")
    result = maxim_run("in", "-o", "out", "--recursive")
    assert (result.exit_code, result.stdout) == (0, "out/x/a.png\n")


def test_a_file_below_two_inputs_is_done_once(folder: Path, network: Inverter):
    picture("in/x/a.png")
    result = maxim_run("in", "in/x", "-o", "out", "--recursive")
    assert (result.exit_code, result.stdout) == (0, "out/x/a.png\n")


# Patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["out/a.png", "out/b.png"]),
        ("in/[ab].*", ["out/a.png", "out/b.png"]),
        ("in/**/*.png", ["out/a.png", "out/b.png", "out/c.png"]),
        ("in/*", ["out/a.png", "out/b.png"]),
        ("in/?/c.*", ["out/c.png"]),
    ],
)
def test_patterns_in_quotes(folder: Path, network: Inverter, pattern: str, expected: list[str]):
    for name in ("a.png", "b.png", "x/c.png", ".d.png"):
        picture(f"in/{name}")
    Path("in/notes.txt").touch()
    result = maxim_run(pattern, "-o", "out")
    assert (result.exit_code, result.stdout.split()) == (0, expected)
    absolute = maxim_run(str(folder / pattern), "-o", "out")
    assert absolute.stdout.split() == expected


def test_one_match_still_gives_a_folder(folder: Path, network: Inverter):
    picture("in/a.png")
    assert maxim_run("in/*.png", "-o", "out.png").stdout == "out.png/a.png\n"


def test_a_file_whose_name_looks_like_a_pattern(folder: Path, network: Inverter):
    picture("a[1].png")
    picture("a1.png")
    assert maxim_run("a[1].png", "-o", "out").stdout == "out/a[1].png\n"


def test_a_pattern_without_a_match_fails_and_the_others_do_not(folder: Path, network: Inverter):
    picture("a.png")
    result = maxim_run("a.png", "in/*.jpg", "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "out/a.png\n")
    assert "image 'in/*.jpg' | no file has such a name" in result.stderr


# Before and after


def test_before_and_after_side_by_side(folder: Path, network: Inverter):
    picture("a.png", 10, size=(6, 4))
    result = maxim_run("a.png", "-o", "out", "--compare")
    assert (result.exit_code, result.stdout) == (0, "out/a.png\n")
    assert files("out") == ["a.before-after.png", "a.png"]
    both = read_image(Path("out/a.before-after.png")).rgb
    assert both.shape == (4, 12, 3)
    assert (both[:, :6] == 10).all() and (both[:, 6:] == 245).all()


def test_before_and_after_beside_a_file_of_another_format(folder: Path, network: Inverter):
    Image.new("LA", (3, 2), (10, 0)).save("a.png")
    assert maxim_run("a.png", "-o", "out/b.webp", "--compare").exit_code == 0
    assert files("out") == ["b.before-after.png", "b.webp"]
    both = read_image(Path("out/b.before-after.png"))
    assert both.is_grey and both.alpha is None  # what is compared shows, also where it is clear


def test_before_and_after_overwrites_no_input_and_no_result(folder: Path, network: Inverter):
    picture("in/a.png")
    picture("in/a.before-after.jpg")
    result = maxim_run("in", "-o", "out", "--compare")
    assert result.exit_code == 1
    assert "output 'out/a.before-after.png' is claimed by 'in/a.before-after.jpg'" in result.stderr
    picture("in/b.webp")
    Path("in/b.before-after.png").touch()  # an input that cannot be read is still an input
    result = maxim_run("in/b.webp", "in/b.before-after.png", "-o", "in", "--compare")
    assert "image 'in/b.webp' | output 'in/b.before-after.png' would overwrite" in result.stderr
    assert Path("in/b.before-after.png").read_bytes() == b""


# 16 bits


@pytest.fixture
def deep(folder: Path) -> Picture:
    """A picture of 16 bits with alpha, as `a.png`."""
    pytest.importorskip("imagecodecs")
    rgba = np.random.default_rng(0).integers(0, 65536, (5, 6, 4), dtype=np.uint16)
    picture = Picture(rgba[..., :3].copy(), alpha=rgba[..., 3].copy())
    write_image(Path("a.png"), picture.rgb, like=picture)
    return picture


@pytest.mark.parametrize("out", ["out/a.png", "b.tif"])
def test_16_bits_go_through_with_every_bit(deep: Picture, network: Inverter, out: str):
    result = maxim_run("a.png", "-o", "out" if out == "out/a.png" else out, "--compare")
    assert (result.exit_code, result.stdout) == (0, f"{out}\n")
    restored = read_image(Path(out))
    assert np.array_equal(restored.rgb, 65535 - deep.rgb)
    assert np.array_equal(restored.alpha, deep.alpha)
    both = read_image(Path(out).with_name(f"{Path(out).stem}.before-after.png")).rgb
    assert np.array_equal(both, np.concatenate([deep.rgb, restored.rgb], axis=1))


def test_16_bits_are_refused_where_8_would_be_left(deep: Picture, network: Inverter, monkeypatch):
    result = maxim_run("a.png", "-o", "b.jpg")
    assert result.exit_code == 1
    assert "image 'a.png' | output 'b.jpg' | JPEG cannot hold the 16 bits" in result.stderr
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    result = maxim_run("a.png", "-o", "b.png")
    assert result.exit_code == 1
    assert "would silently drop the rest" in result.stderr
    assert "pip install 'maxim-deploy[hdr]'" in result.stderr
    assert (network.calls, files(".")) == ([], ["a.png"])


def test_the_backends_are_those_of_the_runtime():
    from maxim_deploy.cli.run import _BACKENDS
    from maxim_deploy.runtime.loading import BACKENDS
    from maxim_deploy.runtime.probes import PROBES
    from maxim_deploy.runtime.registry import registered_names

    assert set(BACKENDS) == {"auto", *PROBES}
    assert set(_BACKENDS) == {*BACKENDS, *registered_names()}
