"""Several images, or several tiles, in one run of the network."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.fakes import Doubling, Gaining, Laned, image_of, restorer_of

import maxim_deploy
from maxim_deploy import BackendError, UsageError
from maxim_deploy.runtime.turns import Turn, Turns
from maxim_deploy.spec.profiles import Profile, Shape


def test_equal_padded_sizes_run_together() -> None:
    backend = Gaining()
    restorer = restorer_of(backend)
    sizes = [(70, 90), (64, 64), (128, 66), (33, 64), (100, 100)]
    images = [image_of(*size) for size in sizes]
    images[3] = (images[3] * 120).astype(np.uint8)
    images[4] = (images[4] * 30000).astype(np.uint16)
    for image, restored in zip(images, restorer.batch(images), strict=True):
        assert restored.dtype == image.dtype and restored.shape == image.shape
        assert np.abs(restored.astype(float) - 2.0 * image).max() <= 1e-6
    assert backend.shapes == [(2, 3, 64, 64), (3, 3, 128, 128)]


def test_a_call_with_a_batch_is_one_run() -> None:
    backend = Gaining()
    images = np.random.default_rng(0).random((5, 3, 50, 70), np.float32)
    assert np.abs(restorer_of(backend)(images) - 2 * images).max() < 1e-6
    assert backend.shapes == [(5, 3, 64, 128)]


def test_the_image_form_groups_images_of_one_size() -> None:
    backend = Gaining(io="image")
    images = [np.full((*size, 3), 9, np.uint8) for size in [(5, 6), (5, 7), (5, 6)]]
    assert [(one == 18).all() for one in restorer_of(backend).batch(images)] == [True] * 3
    assert backend.shapes == [(2, 5, 6, 3), (1, 5, 7, 3)]


def test_as_many_as_the_memory_allows_in_even_parts() -> None:
    room = 100 * 64 * 64
    for limit, count, expected in (
        (3 * room, 4, [2, 2]),
        (3 * room, 7, [3, 2, 2]),
        (room, 2, [1, 1]),
        (None, 20, [10, 10]),
    ):
        backend = Gaining()
        restorer_of(backend, limit=limit).batch([image_of(64, 64)] * count)
        assert [shape[0] for shape in backend.shapes] == expected


def test_an_engine_takes_the_batches_that_it_was_built_for() -> None:
    size = (512, 512)
    only = Profile("tile512", Shape(1, *size), Shape(1, *size), Shape(8, *size))
    backend = Gaining(profile=only)
    restorer = restorer_of(backend)
    restorer.batch([image_of(500, 500)] * 10)
    assert [shape[0] for shape in backend.shapes] == [5, 5]


def test_images_that_are_padded_up_to_an_engine_run_together() -> None:
    size = (512, 512)
    only = Profile("tile512", Shape(1, *size), Shape(1, *size), Shape(8, *size))
    for io in ("tensor", "image"):
        backend = Gaining(profile=only, io=io)
        restorer = restorer_of(backend)
        images = [np.full((300, 300, 3), k, np.uint8) for k in range(10)]
        for image, restored in zip(images, restorer.batch(images), strict=True):
            assert np.array_equal(restored, 2 * image)
        assert [shape[0] for shape in backend.shapes] == [5, 5]
    eight = restorer_of(Gaining(profile=only)).batch(images, self_ensemble=True)
    assert all(np.array_equal(one, 2 * k * np.ones_like(one)) for k, one in enumerate(eight))


def test_tiles_of_one_image_go_together() -> None:
    size = (512, 512)
    only = Profile("tile512", Shape(1, *size), Shape(1, *size), Shape(8, *size))
    backend = Gaining(profile=only)
    restorer = restorer_of(backend)
    image = image_of(1000, 1800)
    plan = restorer.plan(1000, 1800)
    assert (plan.tiles, plan.batch, plan.bytes) == (12, 6, 600 * 512 * 512)
    assert "12 tiles of 512x512 that share 64 pixels, 6 at a time" in str(plan)
    assert np.abs(restorer(image) - 2 * image).max() < 1e-6
    assert [shape[0] for shape in backend.shapes] == [6, 6]
    eight = restorer(image, self_ensemble=True)
    assert np.abs(eight - 2 * image).max() < 1e-6


def test_what_gains_nothing_runs_alone() -> None:
    class Little(Doubling):
        batch_pixels = 2 * 64 * 64

    backend = Little()
    restorer = restorer_of(backend)
    restorer.batch([image_of(64, 64)] * 4 + [image_of(64, 128)] * 2)
    assert [shape[0] for shape in backend.shapes] == [2, 2, 1, 1]


def test_out_of_memory_leads_to_fewer_at_a_time_then_to_tiles(caplog) -> None:
    backend = Gaining(room=256 * 256)
    restorer = restorer_of(backend)
    images = [image_of(256, 256)] * 4
    with caplog.at_level(logging.WARNING, "maxim_deploy"):
        for image, restored in zip(images, restorer.batch(images), strict=True):
            assert np.abs(restored - 2 * image).max() < 1e-6
    assert [shape[0] for shape in backend.shapes] == [4, 2, 1, 1, 1, 1]
    assert caplog.messages == ["out of memory at 256x256; continuing with fewer images at a time"]
    backend.room, backend.shapes = 192 * 192, []
    restorer.batch(images[:1])
    assert backend.shapes[0] == (1, 3, 256, 256) and backend.shapes[-1][2:] == (128, 128)


def test_out_of_memory_with_tiles_together() -> None:
    backend = Gaining(room=2 * 128 * 128)
    restorer = restorer_of(backend, tile=128)
    image = image_of(256, 256)
    assert np.abs(restorer(image) - 2 * image).max() < 1e-6
    assert [shape[0] for shape in backend.shapes] == [9, 3] + [1] * 9


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((3, 3), np.uint8), "RGB"),
        (np.zeros((0, 3, 3), np.uint8), "RGB"),
        (np.full((3, 3, 3), np.nan, np.float32), "NaN"),
        (np.zeros((3, 3, 3), np.int64), "int64"),
        ("a.png", "not str"),
    ],
)
def test_one_bad_image_is_named_and_nothing_runs(bad, words: str) -> None:
    backend = Gaining()
    if isinstance(bad, str):
        with pytest.raises(UsageError, match=words):
            restorer_of(backend).batch([image_of(9, 9), bad])
    else:
        with pytest.raises(UsageError, match=rf"images\[1\] \| .*{words}"):
            restorer_of(backend).batch([image_of(9, 9), bad])
    assert backend.shapes == []


def test_a_backend_that_fails_on_a_batch_fails_all_of_it() -> None:
    class Failing(Gaining):
        def run(self, image: np.ndarray) -> np.ndarray:
            raise BackendError("no")

    with pytest.raises(BackendError, match="no"):
        restorer_of(Failing()).batch([image_of(9, 9)] * 2)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=5))
def test_the_network_gives_what_single_calls_give(demo_bundle: Path, sizes) -> None:
    images = [np.random.default_rng(w).integers(0, 256, (h, w, 3), np.uint8) for h, w in sizes]
    with maxim_deploy.load(demo_bundle) as restorer:
        alone = [restorer(image) for image in images]
        together = restorer.batch(images)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_two_lanes_are_two_runs_at_a_time() -> None:
    class TwoLanes(Doubling):
        lanes = 2
        meeting = threading.Barrier(2, timeout=10)

        def run(self, image: np.ndarray) -> np.ndarray:
            self.meeting.wait()  # breaks unless the other one is here
            return super().run(image)

    restorer = restorer_of(TwoLanes())
    futures = [restorer.submit(image_of(64, 64)) for _ in range(4)]
    assert all(future.result(30).shape == (64, 64, 3) for future in futures)


def test_closing_waits_for_every_turn() -> None:
    turns, entered, leave = Turns(2), threading.Event(), threading.Event()

    def work() -> None:
        with turns.one():
            entered.set()
            leave.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    entered.wait(10)
    closer = threading.Thread(target=lambda: turns.all().__enter__())
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    leave.set()
    closer.join(10)
    worker.join(10)
    assert not closer.is_alive()


class TestLanesOfACpu:
    """They share the images of a batch."""

    @pytest.mark.parametrize("count", [2, 4, 6])
    def test_none_is_alone(self, count: int) -> None:
        backend = Laned(2)
        images = [image_of(64, 64)] * count
        for restored in restorer_of(backend).batch(images):
            assert np.array_equal(restored, 2 * images[0])
        assert [turn.is_alone for turn in backend.turns] == [False] * count

    @pytest.mark.parametrize("count", [1, 3, 7])
    def test_what_is_left_over_has_every_thread(self, count: int) -> None:
        backend = Laned(2)
        restorer_of(backend).batch([image_of(64, 64)] * count)
        alone = [turn.is_alone for turn in backend.turns]
        assert alone == [False] * (count - 1) + [True]

    def test_large_images_first_and_results_in_order(self) -> None:
        backend = Laned(2)
        images = [image_of(*size) for size in ((64, 64), (128, 64), (64, 70), (192, 192))]
        for image, restored in zip(images, restorer_of(backend).batch(images), strict=True):
            assert np.array_equal(restored, 2 * image)
        assert sorted(backend.begun.queue)[-1] in [*backend.begun.queue][:2]
        assert not any(turn.is_alone for turn in backend.turns)

    def test_small_images_share_runs_beside_each_other(self) -> None:
        backend = Laned(2)
        backend.batch_pixels = 3 * 64 * 64
        restorer_of(backend).batch([image_of(64, 64)] * 8)
        assert [shape[0] for shape in backend.begun.queue] == [2, 2, 2, 2]

    @pytest.mark.parametrize("count, alone", [(2, 2), (5, 5), (6, 0), (8, 0), (10, 2), (14, 0)])
    def test_a_round_that_leaves_many_idle_has_every_thread(self, count: int, alone: int) -> None:
        backend = Laned(8)
        restorer_of(backend).batch([image_of(64, 64)] * count)
        assert sum(turn.is_alone for turn in backend.turns) == alone

    def test_few_small_images_share_a_run(self) -> None:
        backend = Laned(16)
        backend.batch_pixels = None
        restorer_of(backend).batch([image_of(64, 64)] * 8)
        assert [*backend.begun.queue] == [(8, 3, 64, 64)] and backend.turns[0].is_alone

    def test_no_images(self) -> None:
        assert restorer_of(Laned(2)).batch([]) == []

    def test_settings_of_numpy_are_the_callers(self) -> None:
        found: list[str] = []

        class Asking(Laned):
            def run(self, image: np.ndarray, turn: Turn | None = None) -> np.ndarray:
                found.append(np.geterr()["divide"])
                return super().run(image, turn)

        with np.errstate(divide="raise"):
            restorer_of(Asking(2)).batch([image_of(64, 64)] * 3)
        assert found == ["raise"] * 3


@pytest.mark.parametrize("backend", [Gaining(), Laned(1), Laned(2)])
def test_each_result_is_told_once_it_is_there(backend: Doubling) -> None:
    told: dict[int, np.ndarray] = {}
    images = [image_of(side, 64) for side in (64, 10, 200, 64, 64)]
    restored = restorer_of(backend).batch(images, ready=told.__setitem__)
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert all(told[index] is one for index, one in enumerate(restored))


def test_an_exception_of_ready_ends_the_batch() -> None:
    backend = Laned(2)

    def fail(_: int, __: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        restorer_of(backend).batch([image_of(64, 64)] * 1000, ready=fail)
    assert len(backend.turns) < 1000
