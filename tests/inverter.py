"""A stand-in for a `Restorer` that inverts pixels, and files for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from maxim_deploy.imaging.files import read_image


class Inverter:
    """Stands in for a `Restorer`; the calls it gets can be made to go wrong."""

    def __init__(self) -> None:
        self.loaded: list[tuple[object, dict[str, object]]] = []
        self.expected: list[object] = []
        self.calls: list[str] = []
        self.room, self.runs_room = 10**9, 10**9
        self.on_call: Callable[[int], object] = lambda _: None
        self.on_image: Callable[[np.ndarray], object] = lambda _: None
        self.info = SimpleNamespace(settings={"bundle": "inverting"}, lanes=1)
        self.chosen_for: list[tuple[int, int]] = []

    def load(self, bundle: object, **options: object) -> Inverter:
        # Apart from the others: `maxim-run` adds it where "auto" has something to choose.
        self.expected.append(options.pop("expected", None))
        self.loaded.append((bundle, options))
        return self

    def __enter__(self) -> Inverter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def has_room(
        self, size: int, height: int, width: int, *, self_ensemble: bool, runs: int
    ) -> bool:
        """Of memory, beside a run; there are `room` bytes, and of others `runs_room` runs."""
        return size <= self.room and runs <= self.runs_room

    def plan(self, height: int, width: int) -> SimpleNamespace:
        """Whole, whatever the size."""
        return SimpleNamespace(tiles=1)

    def choose_lanes(self, height: int, width: int) -> int:
        self.chosen_for.append((height, width))
        return self.info.lanes

    def submit(self, image: np.ndarray, **options: object) -> Future[np.ndarray]:
        """The result is there when this returns."""
        done: Future[np.ndarray] = Future()
        try:
            done.set_result(self(image, **options))
        except Exception as error:
            done.set_exception(error)
        return done

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


def level(name: str | Path) -> int:
    return int(read_image(Path(name)).rgb[0, 0, 0])


def files(name: str) -> list[str]:
    return sorted(path.name for path in Path(name).iterdir())
