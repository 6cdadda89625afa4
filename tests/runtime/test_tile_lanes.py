"""Tiles of one picture side by side: the same result, in the memory planned, stopped together."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from runtime.fakes import Laned, image_of, restorer_of

from maxim_deploy import CancelledError, ImageTooLargeError
from maxim_deploy.runtime.progress import RunProgress


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_results_do_not_depend_on_lanes(self_ensemble: bool) -> None:
    image, results = image_of(700, 500), []
    for lanes in (1, 2, 3):
        backend = Laned(lanes)
        with restorer_of(backend, tile=128) as restorer:
            results.append(restorer(image, self_ensemble=self_ensemble))
        assert backend.most == lanes
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_side_by_side_each_run_has_few_threads() -> None:
    backend = Laned(2)
    with restorer_of(backend, tile=128) as restorer:
        restorer(image_of(300, 300))
        assert not any(turn.is_alone for turn in backend.turns)
        backend.turns.clear()
        restorer(image_of(64, 64))  # not in tiles
    assert [turn.is_alone for turn in backend.turns] == [True]


def test_no_more_side_by_side_than_the_memory_holds() -> None:
    backend = Laned(4)
    with restorer_of(backend, tile=128) as restorer:
        one = restorer.plan(300, 300).bytes
    for room, most in ((1.5, 1), (2.5, 2)):
        backend = Laned(4)
        backend.free_bytes = lambda room=room: int(room * one)  # type: ignore[method-assign, misc]
        with restorer_of(backend, tile=128) as restorer:
            restorer(image_of(300, 300))
        assert backend.most == most


def test_progress_counts_every_tile() -> None:
    seen: list[RunProgress] = []
    with restorer_of(Laned(2), tile=128) as restorer:
        tiles = restorer.plan(500, 300).tiles
        restorer.submit(image_of(500, 300), progress=seen.append).result()
    assert [step.done for step in seen] == [*range(2, tiles, 2), tiles]
    assert {step.total for step in seen} == {tiles}


def test_a_picture_that_is_cancelled_ends_all_its_tiles() -> None:
    backend = Laned(2)
    backend.let_go.clear()
    with restorer_of(backend, tile=128) as restorer:
        future = restorer.submit(image_of(300, 300))
        for _ in range(2):
            backend.has_begun(128, 128)
        future.cancel()
        with pytest.raises(CancelledError):
            future.result(timeout=20)
        backend.let_go.set()
        assert restorer(image_of(64, 64)).shape == (64, 64, 3)
    assert not any(thread.name.startswith("maxim-deploy-tiles") for thread in threading.enumerate())


def test_small_pictures_run_between_two_rounds_of_tiles() -> None:
    backend = Laned(2)
    with restorer_of(backend, tile=128) as restorer:
        large = restorer.submit(image_of(1000, 1000))
        backend.has_begun(128, 128)
        restorer(image_of(64, 64))
        assert not large.done()
        assert large.result().shape == (1000, 1000, 3)
    assert backend.most <= 3


class OnDevice(Laned):
    """Takes arrays "in device memory"."""

    uses_host_memory = False

    def device_array(self, array):
        return array

    def run_on_device(self, image, out=None):
        return image


class Array:
    """Looks like an array in device memory."""

    shape = (1, 3, 256, 256)
    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012


def test_arrays_in_device_memory_keep_to_max_memory() -> None:
    image = Array()
    with restorer_of(OnDevice(1), limit=100 * 256 * 256) as restorer:
        assert restorer(image) is image
    with (
        restorer_of(OnDevice(1), limit=100 * 256 * 256 - 1) as restorer,
        pytest.raises(ImageTooLargeError, match=r"1x3x256x256 . takes 6.55 MB . max_memory is"),
    ):
        restorer(image)
