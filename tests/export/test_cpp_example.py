"""The C++ example: compiled, linked with the installed ONNX Runtime, run, compared."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import maxim_deploy

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "export" / "cpp" / "restore.cpp"
STAND_IN = Path(__file__).with_name("cpp")
"""Declarations for where ONNX Runtime's own headers are not: its wheel has none."""


@pytest.fixture(scope="module")
def restore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, of ONNX Runtime's headers in $ONNXRUNTIME_ROOT/include or of the stand-in."""
    compiler = shutil.which("c++")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if compiler is None or not libraries:
        pytest.skip("needs a C++ compiler and an onnxruntime with its shared library")
    folder = tmp_path_factory.mktemp("cpp")
    library = folder / "libonnxruntime.so.1"  # the name that the program will look for
    library.symlink_to(libraries[-1])
    root = os.environ.get("ONNXRUNTIME_ROOT")
    headers = f"{root}/include" if root else STAND_IN
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    files = [SOURCE, library, f"-I{headers}", f"-Wl,-rpath,{folder}", "-o", folder / "restore"]
    subprocess.run([compiler, "-std=c++17", *warnings, *files], check=True)
    return folder / "restore"


def test_example_restores_as_the_runtime_does(
    restore: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 90, 3), np.uint8)
    noisy, restored = tmp_path / "noisy.ppm", tmp_path / "restored.ppm"
    noisy.write_bytes(b"P6\n90 37\n255\n" + image.tobytes())
    subprocess.run([restore, demo_bundle / "fp32.image.onnx", noisy, restored, "1"], check=True)
    header, pixels = b"P6\n90 37\n255\n", restored.read_bytes()
    assert pixels.startswith(header)
    result = np.frombuffer(pixels[len(header) :], np.uint8).reshape(image.shape)
    with maxim_deploy.load(demo_bundle, precision="fp32", threads=1) as restorer:
        expected = restorer(image)
    assert np.abs(result.astype(int) - expected).max() <= 1  # the tensor form rounds elsewhere
    assert (result == expected).mean() > 0.999


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "usage: restore"),
        (["graph.onnx", "missing.ppm", "out.ppm"], 1, "missing.ppm | not a binary PPM"),
        (["missing.onnx", "short.ppm", "out.ppm"], 1, "short.ppm | ends before its last pixel"),
        (["missing.onnx", "good.ppm", "out.ppm"], 1, "missing.onnx"),
    ],
)
def test_example_says_what_is_wrong(
    restore: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "good.ppm").write_bytes(b"P6 1 1 255\nabc")
    (tmp_path / "short.ppm").write_bytes(b"P6 1 1 255\nab")
    ended = subprocess.run([restore, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == code and message in ended.stderr
    assert not (tmp_path / "out.ppm").exists()
