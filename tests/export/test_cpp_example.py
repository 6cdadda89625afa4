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
STAND_IN = Path(__file__).with_name("cpp")
"""Declarations for where ONNX Runtime's own headers are not: its wheel has none."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a release unpacks: $ONNXRUNTIME_ROOT, or the wheel's library and the stand-in."""
    if given := os.environ.get("ONNXRUNTIME_ROOT"):
        return Path(given)
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if shutil.which("c++") is None or shutil.which("cmake") is None or not libraries:
        pytest.skip("needs CMake, a C++ compiler, and an onnxruntime with its shared library")
    folder = tmp_path_factory.mktemp("onnxruntime")
    (folder / "include").symlink_to(STAND_IN)
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # to link with, and to run with
        (folder / "lib" / name).symlink_to(libraries[-1])
    (folder / "VERSION_NUMBER").write_text(f"{onnxruntime.__version__}\n")
    return folder


def configure(build: Path, root: Path | None, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["cmake", "-S", ROOT / "export" / "cpp", "-B", build]
    command += [f"-D{name}={value}" for name, value in variables.items()]
    environment = {name: text for name, text in os.environ.items() if name != "ONNXRUNTIME_ROOT"}
    if root is not None:
        environment["ONNXRUNTIME_ROOT"] = str(root)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def restore(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built as its CMake file says, with $ONNXRUNTIME_ROOT set."""
    build = tmp_path_factory.mktemp("cpp")
    flags = "-Wall -Wextra -Wpedantic -Werror"
    configured = configure(build, root, CMAKE_CXX_FLAGS=flags)
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run(["cmake", "--build", build], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return build / "restore"


def test_an_older_onnxruntime_is_refused(root: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("include", "lib"):
        (old / name).symlink_to(root / name)
    (old / "VERSION_NUMBER").write_text("1.24.0\n")
    refused = configure(tmp_path / "build", None, ONNXRUNTIME_ROOT=str(old))
    said = " ".join(refused.stderr.split())
    assert refused.returncode and "ONNX Runtime 1.24.0 is in" in said
    assert "install 1.24.1 or newer" in said


def test_a_missing_onnxruntime_is_said(root: Path, tmp_path: Path) -> None:
    paths = {"CMAKE_FIND_ROOT_PATH_MODE_INCLUDE": "ONLY", "CMAKE_FIND_ROOT_PATH": str(tmp_path)}
    refused = configure(tmp_path / "build", tmp_path, **paths)
    assert refused.returncode and "-DONNXRUNTIME_ROOT=FOLDER" in " ".join(refused.stderr.split())


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
