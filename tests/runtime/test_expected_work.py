"""When "auto" takes a backend that compiles the network for each size."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maxim_deploy
from maxim_deploy.jobs.expected import FRAMES, MOST_FILES, expected_work
from maxim_deploy.runtime.expected_work import MOST_SIZES, compiling_pays, in_tiles, in_words

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="pip install 'maxim-deploy[openvino]'"
)


@pytest.mark.parametrize(
    ("expected", "pays"),
    [
        ({}, False),
        ({(64, 64): 1}, False),
        ({(384, 512): 100}, True),
        ({(384, 512): 10}, False),
        ({(380, 500): 15, (384, 512): 15}, True),  # one padded size
        ({(384, 512): 15, (512, 384): 15}, False),  # two
        ({(64 * k, 512): 1000 for k in range(1, MOST_SIZES + 1)}, True),
        ({(64 * k, 512): 1000 for k in range(1, MOST_SIZES + 2)}, False),
        ({(1080, 1920): 1500}, True),
    ],
)
def test_compiling_pays_where_sizes_repeat(expected: dict, pays: bool) -> None:
    assert compiling_pays(expected) == pays


def test_one_large_picture_pays_in_tiles() -> None:
    photo = {(1000, 2000): 1, (64, 64): 1}
    assert in_tiles(photo, 512) == {(512, 512): 8, (64, 64): 1}
    assert not compiling_pays({(1000, 2000): 1})
    assert compiling_pays(in_tiles({(3000, 4000): 1}, 512))


def test_work_in_words() -> None:
    assert in_words({}) == "single pictures"
    assert in_words({(3, 4): 7}) == "7 pictures of 3x4"
    assert in_words({(3, 4): 7, (4, 3): 1}) == "8 pictures of 2 sizes"


def test_a_job_says_what_it_has(tmp_path: Path) -> None:
    for k in range(MOST_FILES + 2):
        Image.new("RGB", (70, 50)).save(tmp_path / f"{k:03}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = sorted(tmp_path.iterdir())
    work = expected_work(files)
    assert work.keys() == {(50, 70)} and abs(work[50, 70] - (MOST_FILES + 2)) <= 2
    assert expected_work([]) == {} and expected_work([tmp_path / "broken.png"]) == {}


def test_a_video_is_many_pictures(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="pip install 'maxim-deploy[video]'")
    from clips import clip

    clip(tmp_path / "clip.mp4", sound=False)
    ((_, count),) = expected_work([tmp_path / "clip.mp4"]).items()
    assert count == FRAMES


@needs_openvino
def test_auto_takes_it_for_repeated_sizes_only(demo_bundle: Path) -> None:
    with maxim_deploy.load(demo_bundle, expected={(64, 64): 10_000}) as restorer:
        assert restorer.info.backend == "openvino" and "openvino" not in restorer.info.not_taken
        assert "pays: 10000 pictures of 64x64 are expected" in restorer.info.notes[-1]
    with maxim_deploy.load(demo_bundle) as restorer:
        assert restorer.info.backend == "onnxruntime"
        why = restorer.info.not_taken["openvino"]
        assert "compiles the network for each size" in why and "single pictures" in why


@needs_openvino
def test_a_job_tells_auto_of_all_its_files(network, folder: Path) -> None:
    """Also of those that are finished: a job that is resumed runs as it began."""
    (folder / "in").mkdir()
    for k in range(3):
        Image.fromarray(np.zeros((50, 70, 3), np.uint8)).save(folder / "in" / f"{k}.png")
    [*maxim_deploy.restore_files("bundle", "in", "out")]
    [*maxim_deploy.restore_files("bundle", "in", "out", backend="onnxruntime")]
    assert network.expected == [{(50, 70): 3}, None]
