"""`maxim-run`: sub-folders, patterns, before/after pictures, and files of 16 bits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cli.running import maxim_run
from inverter import Inverter, files, picture

from maxim_deploy.imaging.files import read_image, write_image
from maxim_deploy.imaging.picture import Picture

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


# Patterns


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


# Many pixels


def test_more_pixels_than_allowed_fail(folder: Path, network: Inverter):
    picture("a.png", size=(6, 4))
    assert maxim_run("a.png", "-o", "b.png", "--max-pixels", "24").exit_code == 0
    result = maxim_run("a.png", "-o", "c.png", "--max-pixels", "23")
    assert result.exit_code == 1
    assert "'a.png' | 4x6, 24 pixels, but the limit is 23 | raise max_pixels" in result.stderr
    assert maxim_run("a.png", "-o", "c.png", "--max-pixels", "0").exit_code == 2


# 16 bits


@pytest.fixture
def picture_16(folder: Path) -> Picture:
    """A picture of 16 bits with alpha, as `a.png`."""
    pytest.importorskip("imagecodecs")
    rgba = np.random.default_rng(0).integers(0, 65536, (5, 6, 4), dtype=np.uint16)
    picture = Picture(rgba[..., :3].copy(), alpha=rgba[..., 3].copy())
    write_image(Path("a.png"), picture.rgb, like=picture)
    return picture


def test_16_bits_are_refused_where_8_would_be_left(
    picture_16: Picture, network: Inverter, monkeypatch
):
    result = maxim_run("a.png", "-o", "b.jpg")
    assert result.exit_code == 1
    assert "image 'a.png' | output 'b.jpg' | JPEG cannot hold the 16 bits" in result.stderr
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    result = maxim_run("a.png", "-o", "b.png")
    assert result.exit_code == 1
    assert "would lose the rest" in result.stderr
    assert "pip install 'maxim-deploy[hdr]'" in result.stderr
    assert (network.calls, files(".")) == ([], ["a.png"])


def test_an_unknown_backend_is_a_usage_error_that_lists_the_known(network, folder):
    from maxim_deploy.runtime.registry import backend_names

    picture("a.png")
    result = maxim_run("a.png", "-o", "b.png", "--backend", "tensort")
    assert result.exit_code == 2 and not network.loaded
    text = " ".join(result.stderr.replace("│", " ").split())
    assert (
        "Invalid value for '--backend': unknown backend 'tensort' (did you mean 'tensorrt'?)"
        in (text)
    )
    assert f"known: auto, {', '.join(backend_names())}" in text
    for name in ("auto", *backend_names()):
        assert maxim_run("a.png", "-o", "b.png", "--backend", name).exit_code == 0


def test_code_of_an_engine_runs_on_request_only(folder: Path, network: Inverter):
    picture("a.png")
    assert maxim_run("a.png", "-o", "b.png").exit_code == 0
    assert maxim_run("a.png", "-o", "b.png", "--allow-host-code").exit_code == 0
    assert [options.get("allow_host_code", False) for _, options in network.loaded] == [False, True]
