"""Running `maxim-run` with a stand-in for the network, in this process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

import maxim_deploy
from maxim_deploy.cli.run import run
from maxim_deploy.imaging.files import read_image

ROOT = Path(maxim_deploy.__file__).parents[1]


class Inverter:
    """Stands in for a `Restorer`; the calls it gets can be made to go wrong."""

    def __init__(self) -> None:
        self.loaded: list[tuple[object, dict[str, object]]] = []
        self.calls: list[str] = []
        self.on_call: Callable[[int], object] = lambda _: None
        self.on_image: Callable[[np.ndarray], object] = lambda _: None

    def load(self, bundle: object, **options: object) -> Inverter:
        self.loaded.append((bundle, options))
        return self

    def __enter__(self) -> Inverter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(
        self, image: np.ndarray, *, rounding: str, self_ensemble: bool = False
    ) -> np.ndarray:
        self.calls.append(rounding + " ensemble" * self_ensemble)
        self.on_call(len(self.calls))
        self.on_image(image)
        return np.iinfo(image.dtype).max - image


def picture(name: str, level: int = 10, size: tuple[int, int] = (6, 4)) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def maxim_run(*args: str) -> Result:
    return CliRunner().invoke(run, ["bundle", *args], catch_exceptions=False)


def level(name: str | Path) -> int:
    return int(read_image(Path(name)).rgb[0, 0, 0])


def files(name: str) -> list[str]:
    return sorted(path.name for path in Path(name).iterdir())


INVERTING = """
import os, resource, signal, sys
from maxim_deploy import runtime
sys.path.insert(0, {tests!r})
from running import Inverter
inverter = Inverter()
runtime.load = inverter.load
{body}
from maxim_deploy.cli.main import run
run()
"""


def child(body: str, *args: str) -> subprocess.CompletedProcess[str]:
    code = INVERTING.format(tests=str(Path(__file__).parent), body=body)
    return subprocess.run(
        [sys.executable, "-c", code, "bundle", *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
