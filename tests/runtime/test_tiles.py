"""Any size in any memory: plans, tiles, running out of memory; and the quality options."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.fakes import Doubling, image_of, restorer_of

import maxim_deploy
from maxim_deploy import BackendError, UsageError
from maxim_deploy.benchmarks.tiles import step_of
from maxim_deploy.imaging import Padding
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.tiling import Tiling
from maxim_deploy.parity.metrics import psnr
from maxim_deploy.runtime.batching import orientations, restore_by_self_ensemble, restore_in_tiles
from maxim_deploy.runtime.cuda import DeviceArray
from maxim_deploy.runtime.planning import Bounds, Planner
from maxim_deploy.spec.profiles import Profile, Shape

ASSETS = Path(maxim_deploy.__file__).parent / "assets"


# ------------------------------------------------------------------ plans


def test_what_fits_runs_whole() -> None:
    restorer = restorer_of(Doubling())
    plan = restorer.plan(1000, 1500)
    assert plan.tile is None and plan.tiles == 1 and plan.overlap == 0
    assert plan.padded == (1024, 1536) and plan.bytes == 100 * 1024 * 1536
    assert plan.limit == 100 * 4096 * 4096 and plan.largest_side == 4096
    assert "1000x1500: whole, 157 MB of 1.68 GB (doubling, fp32)" in str(plan)


def test_what_does_not_fit_runs_in_the_largest_tiles_that_do() -> None:
    plan = restorer_of(Doubling(), limit=100 * 800 * 800).plan(1000, 1500)
    assert plan.tile == (768, 768) and plan.overlap == 64 and plan.tiles == 6
    assert plan.bytes == 100 * 768 * 768 <= plan.limit and plan.largest_side == 768
    assert "6 tiles of 768x768 that share 64 pixels" in str(plan)
    narrow = restorer_of(Doubling(), limit=100 * 800 * 800).plan(5000, 100)
    assert narrow.tile == (2048, 128)


def test_a_plan_of_tiles_that_one_insists_on_names_no_less_than_no_memory() -> None:
    planner = Planner(Doubling(), tile=64)
    plan = planner.plan(300, 200, Bounds(max_bytes=-1000, used=2000))
    assert plan.tile == (64, 64) and plan.limit == 0


def test_tiles_of_a_side_of_ones_own() -> None:
    restorer = restorer_of(Doubling(), tile=256, overlap=100)
    assert restorer.plan(256, 256).tile is None
    plan = restorer.plan(300, 200)
    assert plan.tile == (256, 256) and plan.overlap == 100
    assert restorer_of(Doubling(), tile="off").plan(512, 512).tile is None


def test_an_engine_runs_what_its_profiles_take() -> None:
    only = Profile("x", Shape(1, 256, 256), Shape(1, 256, 256), Shape(1, 512, 512))
    backend = Doubling(profile=only)
    assert restorer_of(backend).plan(500, 300).tile is None
    assert restorer_of(backend).plan(513, 300).tile == (512, 320)
    assert restorer_of(backend).plan(2000, 128).tile == (512, 256)
    with pytest.raises(
        UsageError, match=r"doubling does not accept this size \| leave tile at 'auto'"
    ):
        restorer_of(backend, tile="off").plan(600, 600)
    images = Doubling(profile=only, io="image")  # the graph pads by itself: the image's own size
    assert restorer_of(images).plan(256, 257).tile is None


def test_no_memory_at_all() -> None:
    with pytest.raises(UsageError, match=r"image of 900x900 \| even tiles.* allow more memory"):
        restorer_of(Doubling(), limit=1000).plan(900, 900)
    with pytest.raises(UsageError, match="at least 1x1 pixels, not 0x5"):
        restorer_of(Doubling()).plan(0, 5)


def test_memory_kept_from_earlier_runs_is_there_for_the_next(monkeypatch) -> None:
    """A CPU backend keeps what it took: resident, and used again. Images must not change plans."""

    class Keeping(Doubling):
        device, uses_host_memory, resident = "cpu", True, 0

        def run(self, image: np.ndarray) -> np.ndarray:
            self.resident = max(self.resident, 100 * image.size // 3)
            return super().run(image)

        def free_bytes(self) -> int | None:
            return 150 * 640 * 640

        def held_bytes(self) -> int:
            return self.resident

    for limit in (150 * 640 * 640, None):
        backend = Keeping()
        name = "maxim_deploy.runtime.allotment.resident_bytes"
        monkeypatch.setattr(name, lambda backend=backend: backend.resident)
        restorer = restorer_of(backend, limit=limit)
        for _ in range(3):
            restorer(image_of(640, 640))
        assert backend.shapes == [(1, 3, 640, 640)] * 3
        assert restorer.plan(900, 900).tile is not None


def test_more_may_be_kept_than_is_known_and_equal_images_still_run_equally(monkeypatch) -> None:
    class Keeping(Doubling):
        device, uses_host_memory, resident, released = "cpu", True, 0, 0

        def run(self, image: np.ndarray) -> np.ndarray:
            self.resident = max(self.resident, 114 * image.size // 3)
            return super().run(image)

        def held_bytes(self) -> int:
            return self.resident * 100 // 114

        def release(self) -> None:
            self.resident, self.released = 0, self.released + 1

    backend = Keeping()
    monkeypatch.setattr("maxim_deploy.runtime.allotment.resident_bytes", lambda: backend.resident)
    restorer = restorer_of(backend, limit=(100 + 15) * 640 * 640 + 500_000)
    for _ in range(4):
        restorer(image_of(640, 640))
    assert backend.shapes == [(1, 3, 640, 640)] * 4 and backend.released
    backend.shapes, backend.released = [], 0
    for _ in range(4):
        restorer(image_of(320, 320))
    assert backend.shapes == [(1, 3, 320, 320)] * 4 and not backend.released
    with pytest.raises(UsageError, match="even tiles"):
        restorer(image_of(3000, 3000))
    forced = restorer_of(backend, tile=128)
    backend.released = 0
    for _ in range(2):
        forced(image_of(200, 200))
    assert not backend.released


# ------------------------------------------------------------------ running


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([128, 192, 320]))
def test_tiles_of_a_local_function_are_the_whole(height: int, width: int, tile: int) -> None:
    image = image_of(height, width)
    restored = restorer_of(Doubling(), tile=tile)(image)
    assert restored.shape == image.shape and np.abs(restored - 2 * image).max() < 1e-6
    backend = Doubling(io="image")
    eight = (image * 255).astype(np.uint8)
    expected = np.minimum(eight, 127) * 2
    assert np.array_equal(restorer_of(backend, tile=tile)(eight), expected)


def test_out_of_memory_leads_to_tiles_and_is_said_once(caplog) -> None:
    backend = Doubling(room=300 * 300)
    restorer = restorer_of(backend)
    image = image_of(640, 640)
    with caplog.at_level(logging.WARNING, "maxim_deploy"):
        assert np.abs(restorer(image) - 2 * image).max() < 1e-6
        assert np.abs(restorer(image) - 2 * image).max() < 1e-6
    assert caplog.messages == ["out of memory at 640x640; continuing in tiles"]
    assert backend.shapes[:3] == [(1, 3, 640, 640), (1, 3, 384, 384), (1, 3, 256, 256)]
    assert restorer.plan(640, 640).tile == (256, 256)  # and is remembered
    assert restorer.plan(256, 256).tile is None


def test_out_of_memory_without_a_way_out() -> None:
    with pytest.raises(BackendError, match=r"no room for .* \| leave tile at 'auto'"):
        restorer_of(Doubling(room=10), tile="off")(image_of(256, 256))
    with pytest.raises(BackendError, match="no room for"):
        restorer_of(Doubling(room=10))(image_of(512, 512))


def test_a_failed_tile_leaves_no_result() -> None:
    class Failing(Doubling):
        def run(self, image: np.ndarray) -> np.ndarray:
            if len(self.shapes) == 3:
                raise BackendError("the fourth tile")
            return super().run(image)

    backend = Failing()
    restorer = restorer_of(backend, tile=128)
    with pytest.raises(BackendError, match="the fourth tile"):
        restorer(image_of(256, 256))
    backend.shapes = backend.shapes * 2  # the failure is over
    image = image_of(200, 200)
    assert np.abs(restorer(image) - 2 * image).max() < 1e-6


def test_a_backend_error_in_one_thread_of_several() -> None:
    class Sometimes(Doubling):
        def run(self, image: np.ndarray) -> np.ndarray:
            if image.shape[2] == 128:
                raise BackendError("not this one")
            return super().run(image)

    restorer = restorer_of(Sometimes())
    sizes = [64, 128, 192, 128, 64]
    futures = [restorer.submit(image_of(side, 64)) for side in sizes]
    for side, future in zip(sizes, futures, strict=True):
        if side == 128:
            with pytest.raises(BackendError, match="not this one"):
                future.result(30)
        else:
            assert np.abs(future.result(30) - 2 * image_of(side, 64)).max() < 1e-6


def test_one_run_at_a_time() -> None:
    class Watched(Doubling):
        inside, most = 0, 0

        def run(self, image: np.ndarray) -> np.ndarray:
            self.inside += 1
            self.most = max(self.most, self.inside)
            threading.Event().wait(0.01)
            self.inside -= 1
            return super().run(image)

    backend = Watched()
    restorer = restorer_of(backend)
    for future in [restorer.submit(image_of(64, 64)) for _ in range(8)]:
        future.result(30)
    assert backend.most == 1


def test_closing() -> None:
    backend = Doubling()
    restorer = restorer_of(backend)
    future = restorer.submit(image_of(64, 64))
    restorer.close()
    assert backend.closed and future.result().shape == (64, 64, 3)  # what was submitted is finished
    for call in (restorer.submit, restorer):
        with pytest.raises(BackendError, match="closed"):
            call(image_of(64, 64))
    with pytest.raises(BackendError, match="closed"):
        restorer.plan(64, 64)


def test_batches() -> None:
    restorer = restorer_of(Doubling())
    images = [image_of(70, 90), (image_of(64, 64) * 120).astype(np.uint8), image_of(70, 90)]
    for image, restored in zip(images, restorer.batch(images), strict=True):
        assert np.array_equal(restored, restorer(image)) and restored.dtype == image.dtype
    stacked = np.stack([images[0], images[2]]).transpose(0, 3, 1, 2)
    restored = restorer(stacked)
    assert restored.shape == stacked.shape and np.abs(restored - 2 * stacked).max() < 1e-6
    assert restorer.batch([]) == []
    with pytest.raises(UsageError, match="RGB"):
        restorer.batch([images[0], np.zeros((3, 3), np.uint8)])


def test_in_a_thread_pool_and_in_asyncio() -> None:
    """As the README says."""
    restorer, images = restorer_of(Doubling()), [image_of(side, 64) for side in (64, 100, 64)]

    async def handle(image: np.ndarray) -> np.ndarray:
        return await asyncio.wrap_future(restorer.submit(image))

    async def all_of_them() -> list[np.ndarray]:
        return await asyncio.gather(*map(handle, images))

    with ThreadPoolExecutor(3) as pool:
        pooled = list(pool.map(restorer, images))
    for image, one, other in zip(images, pooled, asyncio.run(all_of_them()), strict=True):
        assert np.abs(one - 2 * image).max() < 1e-6 and np.array_equal(one, other)


def test_warmup_and_dlpack() -> None:
    backend = Doubling()
    restorer = restorer_of(backend)
    restorer.warmup([(64, 64), (100, 200)])
    assert backend.shapes == [(1, 3, 64, 64)] * 2 + [(1, 3, 128, 256)] * 2  # a graph is captured

    class Foreign:
        """Another library's array in host memory."""

        array = image_of(5, 6)

        def __dlpack__(self, **_):
            return self.array.__dlpack__()

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    assert np.abs(restorer(Foreign()) - 2 * Foreign.array).max() < 1e-6


def test_arrays_in_device_memory() -> None:
    given = DeviceArray(4096, (1, 3, 64, 64), np.dtype(np.float32), None, None)

    class Capable(Doubling):
        def run_on_device(self, image: DeviceArray, out: None = None) -> DeviceArray:  # type: ignore[override]
            return replace(image, address=image.address + 1)

    restored = restorer_of(Capable())(given)
    assert restored.__cuda_array_interface__["data"] == (4097, False)
    assert restored.__cuda_array_interface__["shape"] == (1, 3, 64, 64)
    with pytest.raises(UsageError, match="doubling does not support arrays in device memory"):
        restorer_of(Doubling())(given)


# ------------------------------------------------------------------ the self-ensemble


def test_orientations_are_eight_and_undone() -> None:
    image = image_of(4, 6)
    seen = {turned.tobytes() + bytes(turned.shape) for turned, _ in orientations(image)}
    assert len(seen) == 8
    assert all(np.array_equal(undo(turned), image) for turned, undo in orientations(image))


def test_the_ensemble_is_the_mean_over_orientations() -> None:
    ramp = np.linspace(0, 1, 6, dtype=np.float32)

    def network(x: np.ndarray) -> np.ndarray:  # adds a ramp along what it takes for columns
        return x + ramp

    image, axes = np.zeros((2, 3, 6, 6), np.float32), (-2, -1)
    expected = np.mean(
        [undo(network(turned)) for turned, undo in orientations(image, axes)], axis=0
    )
    assert np.abs(restore_by_self_ensemble(network, image, axes) - expected).max() < 1e-6
    assert np.abs(expected - expected[..., ::-1, :]).max() < 1e-6  # as symmetric as a square
    wide = image_of(4, 8)
    assert np.abs(restore_by_self_ensemble(lambda x: x, wide) - wide).max() < 1e-6


def test_the_ensemble_gains_on_the_demo_model(demo_bundle: Path) -> None:
    clean = read_image(ASSETS / "chelsea.png").rgb[64:192, 128:256].astype(np.float32) / 255
    noisy = clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape).astype(np.float32)
    with maxim_deploy.load(demo_bundle) as restorer:
        alone, eight = restorer(noisy), restorer(noisy, self_ensemble=True)
        tiled = maxim_deploy.load(demo_bundle, tile=64 * 2)(noisy, self_ensemble=True)
    assert np.abs(tiled - eight).max() < 1e-6  # one tile is the whole
    assert psnr(eight, clean, peak=1) > psnr(alone, clean, peak=1) + 0.02


# ------------------------------------------------------------------ seams


@pytest.mark.parametrize("tile", [128, 256, 384])
def test_no_seam_shows(demo_bundle: Path, tile: int) -> None:
    """Tiles against the whole, at the default overlap: a step at a seam is as those around it."""
    photo = read_image(ASSETS / "chelsea.png").rgb.astype(np.float32) / 255
    noisy = photo + np.random.default_rng(0).normal(0, 25 / 255, photo.shape).astype(np.float32)
    with maxim_deploy.load(demo_bundle, tile="off") as whole:
        expected = whole(noisy)
    with maxim_deploy.load(demo_bundle, tile=tile) as restorer:
        tiled = restorer(noisy)
        plan = restorer.plan(*noisy.shape[:2])
    assert psnr(np.clip(tiled, 0, 1), np.clip(expected, 0, 1), peak=1) > 45
    assert plan.tile is not None and plan.overlap == 64
    error = Padding(*noisy.shape[:2]).apply(tiled - expected)
    step = step_of(error, Tiling(*plan.padded, plan.tile, plan.overlap))
    assert step.mean <= step.mean_around + 1  # levels of 255
    assert step.largest <= step.largest_around + 1


def test_seams_of_tiles_that_share_nothing_do_show() -> None:
    """The measure above is one that fails: a network whose tiles differ by a constant."""
    image = np.zeros((1, 3, 64, 256), np.float32)
    count = iter(range(100))
    blended = restore_in_tiles(lambda x: [x[0] + next(count)], image, Tiling(64, 256, (64, 128), 0))
    assert np.abs(np.diff(blended)).max() == 1
    smooth = restore_in_tiles(lambda x: [x[0] + next(count)], image, Tiling(64, 256, (64, 128), 64))
    assert np.abs(np.diff(smooth)).max() < 0.03
