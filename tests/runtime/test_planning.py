"""Plans that come to an end, and that engines of few sizes take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from runtime.fakes import Doubling, Gaining, restorer_of
from spec.samples import entry

import maxim_deploy
from maxim_deploy import BackendError, ImageTooLargeError, UsageError
from maxim_deploy.runtime import loading
from maxim_deploy.runtime.engine_set import EngineSet
from maxim_deploy.spec.profiles import Profile, Shape


class Patient(Gaining):
    """Loses patience with the same again and again."""

    def run(self, image: np.ndarray) -> np.ndarray:
        assert len(self.shapes) < 50, "the same runs come back forever"
        return super().run(image)


@pytest.mark.parametrize("io", ["image", "tensor"])
@pytest.mark.parametrize("size", [(65, 257), (257, 257), (700, 500), (1, 1)])
def test_always_out_of_memory_is_an_error(io: str, size: tuple[int, int]) -> None:
    backend = Patient(room=0, io=io)
    with pytest.raises(BackendError, match="no room for"):
        restorer_of(backend)(np.zeros((*size, 3), np.uint8))
    assert len(set(backend.shapes)) == len(backend.shapes)  # each is tried once


def test_small_images_of_the_image_form_run_alone_if_they_must() -> None:
    backend = Patient(room=33 * 33, io="image")
    images = [np.full((33, 33, 3), 9, np.uint8)] * 8
    assert all((one == 18).all() for one in restorer_of(backend).batch(images))
    assert [shape[0] for shape in backend.shapes] == [8, 4, 2] + [1] * 8


def test_running_out_of_memory_once_closes_no_way_for_good() -> None:
    backend = Patient(room=64 * 64)
    restorer = restorer_of(backend)
    assert len(restorer.batch([np.zeros((64, 64, 3), np.uint8)] * 4)) == 4
    backend.room, backend.shapes = 10**9, []
    assert restorer(np.zeros((640, 640, 3), np.uint8)).shape == (640, 640, 3)

    tile512 = Profile("tile512", *[Shape(1, 512, 512)] * 3)
    engine = Patient(room=0, profile=tile512)
    restorer = restorer_of(engine)
    for size in (512, 900):
        with pytest.raises(BackendError, match="no room for"):
            restorer(np.zeros((size, size, 3), np.uint8))
    engine.room = 10**9
    assert restorer(np.zeros((900, 900, 3), np.uint8)).shape == (900, 900, 3)


# ------------------------------------------------------------------ engines of few sizes


def engines_of(**values: object) -> tuple[EngineSet, list[str]]:
    """A small engine, and a large one that has changed on disk; and which were opened."""
    opened: list[str] = []

    def opener(one) -> Doubling:
        opened.append(one.file)
        if one.file == "large":
            raise BackendError("large | has changed")
        return Doubling(io="image")

    small = entry("small", "256x256:256x256:512x512", io="image")
    return EngineSet([small, entry("large", "photo", io="image", **values)], opener), opened


def test_a_call_opens_no_engine_that_it_does_not_need() -> None:
    engines, opened = engines_of()
    image = np.full((300, 300, 3), 9, np.uint8)
    assert (restorer_of(engines)(image) == 18).all() and opened == ["small"]
    with pytest.raises(BackendError, match="large | has changed"):
        restorer_of(engines)(np.zeros((600, 600, 3), np.uint8))


def test_a_plan_takes_the_builders_figures_of_an_engine_that_is_not_open() -> None:
    engines, opened = engines_of(memory={"activation_bytes": 2048 * 2048 * 10})
    assert engines.bytes_for(Shape(1, 1000, 1024)) == 1024 * 1024 * 10 + 1000 * 1024 * 6
    restorer = restorer_of(engines)
    assert restorer.plan(300, 300).largest_side == 2048
    assert restorer.plan(1000, 1024).bytes == 1024 * 1024 * 10 + 1000 * 1024 * 6
    assert opened == ["small"]
    assert engines.bytes_for(Shape(1, 320, 320)) == 100 * 320 * 320  # open: it is asked


@pytest.mark.parametrize("options", [{"tile": 100}, {"tile": "of"}, {"tile": 128, "overlap": 90}])
def test_a_tile_that_cannot_be_leaves_no_backend_open(
    demo_bundle: Path, monkeypatch, options: dict[str, object]
) -> None:
    backend = Doubling()
    monkeypatch.setattr(loading, "open_backend", lambda *_: (backend, {}))
    with pytest.raises(UsageError, match="tile"):
        maxim_deploy.load(demo_bundle, **options)
    assert backend.closed


def test_the_ensemble_asks_for_the_turned_size_before_it_runs() -> None:
    landscape = Profile("x", Shape(1, 256, 256), Shape(1, 256, 512), Shape(1, 512, 1024))
    backend = Doubling(profile=landscape)
    image = np.random.default_rng(0).random((400, 900, 3), np.float32)
    restorer = restorer_of(backend)
    assert np.array_equal(restorer(image), 2 * image) and backend.shapes == [(1, 3, 448, 960)]
    backend.shapes = []
    assert np.abs(restorer(image, self_ensemble=True) - 2 * image).max() < 1e-6
    assert set(backend.shapes) == {(1, 3, 448, 512), (1, 3, 512, 448)}


def test_the_error_says_what_the_process_has_already(monkeypatch) -> None:
    class OnTheCpu(Doubling):
        device, uses_host_memory = "cpu", True

    monkeypatch.setattr("maxim_deploy.runtime.allotment.resident_bytes", lambda: 123_000_000)
    words = r"128x128 do not fit .*: the process already has 123 MB of 100 MB \| allow"
    with pytest.raises(UsageError, match=words):
        restorer_of(OnTheCpu(), limit=100_000_000).plan(900, 900)


@pytest.mark.parametrize(
    ("options", "size", "how"),
    [
        ({"tile": "off"}, (512, 512), "whole, in 26.2 MB"),
        ({"tile": 256}, (512, 512), "9 tiles of 256x256 that share 64 pixels, in 6.55 MB"),
        ({"tile": 1024}, (512, 512), "whole, in 26.2 MB"),
        ({"tile": "auto"}, (128, 128), "even tiles of 128x128 do not fit"),
    ],
)
def test_what_exceeds_max_memory_is_not_run(options, size, how) -> None:
    backend = Doubling()
    restorer = restorer_of(backend, limit=1_000_000, **options)
    for call in (restorer.plan, lambda *sides: restorer(np.zeros((*sides, 3), np.uint8))):
        with pytest.raises(ImageTooLargeError, match=f"image of .*{how}.*max_memory of 1 MB") as e:
            call(*size)
        assert e.value.exit_code == 1 and isinstance(e.value, MemoryError)
    assert backend.shapes == []
    assert restorer_of(backend, **options).plan(*size).bytes > 1_000_000
    assert restorer_of(backend, limit=30_000_000, **options).plan(*size).bytes > 1_000_000


def test_room_beside_a_run(monkeypatch) -> None:
    class OnTheCpu(Doubling):
        device, uses_host_memory = "cpu", True

    monkeypatch.setattr("maxim_deploy.runtime.allotment.resident_bytes", lambda: 10_000_000)
    restorer = restorer_of(OnTheCpu(), limit=100_000_000)
    free = 90_000_000 - restorer.plan(512, 512).bytes
    assert restorer.has_room(free, 512, 512) and not restorer.has_room(free + 1, 512, 512)
    assert not restorer.has_room(0, 9000, 9000)  # there is no such run
    assert restorer_of(Doubling(), limit=1).has_room(10**12, 512, 512)  # memory of a GPU


def test_an_ensemble_takes_the_memory_of_its_sum_and_orientations() -> None:
    class OnTheCpu(Doubling):
        device, uses_host_memory = "cpu", True

        def free_bytes(self) -> int:
            return 130 * 1024 * 1024

    restorer = restorer_of(OnTheCpu())
    alone = restorer.plan(1024, 1024)
    assert alone.tile is None and alone.largest_side == 1024
    eight = restorer.plan(1024, 1024, self_ensemble=True)
    assert eight.tile == (768, 768) and eight.largest_side == 960
    whole = [restorer.plan(640, 640, self_ensemble=each).bytes for each in (False, True)]
    assert whole[1] - whole[0] == 24 * 640 * 640
    tiled = restorer_of(OnTheCpu(), tile=256)
    whole = [tiled.plan(1024, 1024, self_ensemble=each).bytes for each in (False, True)]
    assert whole[1] - whole[0] == 12 * 1024 * 1024


SIZES = {
    "720p": ((704, 1280), (704, 1280), (768, 1280)),
    "photo": ((256, 256), (1024, 1536), (2048, 2048)),
    "tile512": ((512, 512),) * 3,
}


@pytest.mark.parametrize("io", ["tensor", "image"])
@pytest.mark.parametrize(
    ("name", "options", "size", "tile", "padded", "tiles"),
    [
        ("720p", {}, (1080, 1920), (768, 1280), (1088, 1920), 4),
        ("720p", {}, (600, 1300), (704, 1280), (704, 1344), 2),
        ("photo", {}, (100, 100), (256, 256), (256, 256), 1),
        ("photo", {}, (3000, 100), (2048, 256), (3008, 256), 2),
        ("photo", {"tile": 512}, (100, 600), (256, 512), (256, 640), 2),
        ("tile512", {}, (1, 1), (512, 512), (512, 512), 1),
        ("tile512", {"tile": 512}, (300, 300), (512, 512), (512, 512), 1),
        ("tile512", {"tile": 512}, (1000, 300), (512, 512), (1024, 512), 3),
    ],
)
def test_any_size_finds_the_engine(io, name, options, size, tile, padded, tiles) -> None:
    profile = Profile(name, *(Shape(1, *sides) for sides in SIZES[name]))
    restorer = restorer_of(Doubling(profile=profile, io=io), **options)
    plan = restorer.plan(*size)
    assert (plan.tile, plan.padded, plan.tiles) == (tile, padded, tiles)
    assert (f"padded to {tile[0]}x{tile[1]}" in str(plan)) == (tiles == 1)
    image = np.random.default_rng(0).integers(0, 128, (*size, 3), np.uint8)
    assert np.array_equal(restorer(image), 2 * image)


def test_a_size_that_no_tile_serves_says_what_the_engine_takes() -> None:
    profile = Profile("700x700", *[Shape(1, 700, 700)] * 3)
    backend = Doubling(profile=profile, io="image")
    assert restorer_of(backend).plan(700, 700).tile is None
    with pytest.raises(UsageError, match=r"accepts only 700x700 \(700x700\), .* \| choose"):
        restorer_of(backend).plan(800, 800)
    tile512 = Profile("tile512", *[Shape(1, 512, 512)] * 3)
    with pytest.raises(UsageError, match="accepts only"):
        restorer_of(Doubling(profile=tile512), tile=256).plan(300, 300)
