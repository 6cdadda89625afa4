"""The script of `--for vapoursynth` in VapourSynth: its own core, BestSource, vs-mlrt's plugin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import clip
from hosts.sizes import SIZES, TOLERANCE
from hosts.vapoursynth_runs import Frames, evaluate, interpreter, vspipe
from numpy.typing import NDArray

import maxim_deploy
from maxim_deploy.hosts.order import Wishes
from maxim_deploy.parity.metrics import psnr
from maxim_deploy.runtime import Restorer

HALF = Wishes(("fp16",), "fp16")


@pytest.fixture(scope="module", autouse=True)
def vapoursynth() -> str:
    return interpreter()


@pytest.fixture(scope="module")
def restorer(demo_bundle: Path) -> Iterator[Restorer]:
    with maxim_deploy.load(demo_bundle, precision="fp32") as restorer:
        yield restorer


def noise(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Two frames `[2, H, W, 3]`."""
    return np.random.default_rng(7).integers(0, 256, (2, *size, 3), np.uint8)


def video(path: Path, size: tuple[int, int], pixel_format: str) -> Path:
    """Noise of this size (height, width), without loss after the conversion of colours."""
    frames = noise(size)
    options = {"codec": "ffv1", "pixel_format": pixel_format, "frames": frames, "sound": False}
    return clip(path, (0, 3600), size=size[::-1], **options)


def departure(restorer: Restorer, frames: Frames) -> float:
    """The largest difference between what VapourSynth shows and what a restorer makes."""
    images = np.ascontiguousarray(frames.clip.transpose(0, 2, 3, 1))
    expected = np.stack([restorer(image) for image in images]).clip(0, 1)
    return float(np.abs(frames.restored.transpose(0, 2, 3, 1) - expected).max())


@pytest.mark.parametrize("size", SIZES)
def test_frames_of_any_size(write, restorer, tmp_path: Path, size: tuple[int, int]) -> None:
    source = video(tmp_path / "a.mkv", size, "bgr0")
    frames = evaluate(write("vapoursynth") / "restore.vpy", source, tmp_path)
    odd = size[0] % 2 or size[1] % 2
    output = "YUV444P10" if odd else "YUV420P10"
    assert frames.formats == {"clip": "RGBS", "restored": "RGBS", "output": output}
    pixels = np.rint(frames.clip * 255).astype(np.uint8)
    assert np.array_equal(pixels.transpose(0, 2, 3, 1), noise(size))
    assert departure(restorer, frames) <= TOLERANCE


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "gray", "gbrp10le"])
def test_videos_of_any_format(write, restorer, tmp_path: Path, pixel_format: str) -> None:
    source = video(tmp_path / "a.mkv", (64, 80), pixel_format)
    frames = evaluate(write("vapoursynth") / "restore.vpy", source, tmp_path)
    assert frames.formats["clip"] == "RGBS"
    assert departure(restorer, frames) <= TOLERANCE


def test_half_precision(write, restorer, tmp_path: Path) -> None:
    source = video(tmp_path / "a.mkv", (37, 53), "bgr0")
    frames = evaluate(write("vapoursynth", HALF) / "restore.vpy", source, tmp_path)
    assert frames.formats["clip"] == frames.formats["restored"] == "RGBH"
    image = frames.clip[0].transpose(1, 2, 0).astype(np.float32)
    expected = restorer(image).clip(0, 1)
    # Noise all over: see `test_onnx_hosts.py`.
    assert psnr(frames.restored[0].transpose(1, 2, 0).astype(np.float32), expected, peak=1) > 55


@pytest.mark.parametrize("size", [(37, 53), (64, 80)])
def test_the_command_of_the_readme(write, tmp_path: Path, size: tuple[int, int]) -> None:
    """`vspipe` as a user starts it: its variables reach the script, and so does its path."""
    source = video(tmp_path / "a.mkv", size, "bgr0")
    script = write("vapoursynth") / "restore.vpy"
    assert "vspipe -a source=input.mkv -a backend=ort-cpu" in script.read_text()
    head, *frames = re.split(rb"\n?FRAME\n", vspipe(script, source, tmp_path))
    assert f" W{size[1]} H{size[0]} " in head.decode() + " "
    assert b"".join(frames) == evaluate(script, source, tmp_path).output


@pytest.mark.parametrize("backend", ["trt", "rtx"])
def test_engines_are_ordered_from_vsmlrt(write, restorer, tmp_path: Path, backend: str) -> None:
    source = video(tmp_path / "a.mkv", (37, 53), "bgr0")
    script = write("vapoursynth") / "restore.vpy"
    frames = evaluate(script, source, tmp_path, backend=backend, precision="fp32")
    (call,) = frames.vsmlrt
    assert call["backend"] == {"trt": "TRT", "rtx": "TRT_RTX"}[backend]
    assert (call["tilesize"], call["overlap"]) == ([53, 37], [0, 0])
    assert departure(restorer, frames) <= TOLERANCE


def test_an_engine_of_half_precision(write, tmp_path: Path) -> None:
    source = video(tmp_path / "a.mkv", (37, 53), "bgr0")
    folder = write("vapoursynth", HALF)
    (call,) = evaluate(folder / "restore.vpy", source, tmp_path, backend="trt").vsmlrt
    assert call["output_format"] == 1
    # vs-mlrt's wrapper of TensorRT for RTX takes no clips of half precision.
    with pytest.raises(AssertionError, match="choose one of ort-cpu, ort-cuda, trt\\n"):
        evaluate(folder / "restore.vpy", source, tmp_path, backend="rtx")
