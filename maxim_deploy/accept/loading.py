"""Steps about results: a bundle loads, accepts every shape, and gives correct results."""

from __future__ import annotations

import time
from typing import cast

import numpy as np

from maxim_deploy.accept.step import (
    SMALL,
    CannotRunError,
    FaultError,
    Numbers,
    Setting,
    check_near,
    check_restored,
    largest_difference,
    picture,
)
from maxim_deploy.errors import BundleError
from maxim_deploy.imaging import to_unit
from maxim_deploy.parity.comparison import compare
from maxim_deploy.parity.metrics import psnr
from maxim_deploy.parity.thresholds import threshold_for
from maxim_deploy.runtime import Restorer, load
from maxim_deploy.runtime.names import PrecisionName
from maxim_deploy.runtime.registry import graph_backend
from maxim_deploy.spec.precision import FULL

SIZES = ((1, 1), (37, 90), (64, 64), (65, 63), (64, 512), (512, 64), (192, 320))

COMPARED = ((37, 90), SMALL, (192, 320))
"""Sizes of the pictures that are compared with float32."""

TILE = 512
LEAST_DB = 35.0
"""Least PSNR to the whole picture in dB. The demo model has 52 dB or more at this tile size; other
models mix pixels over larger distances."""


def load_and_run(setting: Setting) -> Numbers:
    """Load the bundle and restore one picture."""
    image, begin = picture(SMALL), time.perf_counter()
    with setting.open() as restorer:
        info, loaded = restorer.info, time.perf_counter()
        # Float pixels if the form takes them, because in 8 bits a NaN would become black.
        source = to_unit(image) if info.io == "tensor" else image
        restored, ran = restorer(source), time.perf_counter()
    check_restored(restored, source)
    return {
        "load_s": loaded - begin,
        "first_call_s": ran - loaded,
        "library": info.library,
        "device": info.device,
        "precision": info.precision,
        "io": info.io,
    }


def run_shapes(setting: Setting) -> Numbers:
    """Restore pictures of odd, thin and tiny sizes, in each pixel type that the form takes."""
    with setting.open() as restorer:
        for size in SIZES:
            _run_shape(restorer, size)
        both = [picture(SMALL), picture(SMALL, 1)]
        for image, restored in zip(both, restorer.batch(both), strict=True):
            alone = restorer(image)
            check_near(restored, alone, restorer.info.precision, "a batch of two and single runs")
    return {"shapes": len(SIZES)}


def _run_shape(restorer: Restorer, size: tuple[int, int]) -> None:
    """Run one size; if the form accepts them, also 16 bits and float32, which must agree."""
    image = picture(size)
    restored = restorer(image)
    check_restored(restored, image)
    if restorer.info.io != "tensor":
        return
    where = f"at {size[0]}x{size[1]}"
    for name, other, levels in (
        ("16 bits", image.astype(np.uint16) * np.uint16(257), 257),
        ("float32", to_unit(image), 1 / 255),
    ):
        found = restorer(other)
        check_restored(found, other)
        # Only integers are clipped at white, so clip the float result too.
        near = np.clip(found / levels, 0, 255)
        check_near(near, restored, restorer.info.precision, f"{name} and 8 bits {where}")


def agree_with_float32(setting: Setting) -> Numbers:
    """Compare results with the float32 graph on a CPU, and that graph with PyTorch."""
    on_cpu = graph_backend(on_gpu=False).name
    reference = "torch" if setting.backend == on_cpu else on_cpu
    try:
        exact = load(setting.bundle, backend=reference, precision=cast(PrecisionName, FULL))
    except BundleError as error:
        raise CannotRunError(f"nothing to compare with: {error}") from error
    errors, decibels = [], []
    with exact, setting.open() as restorer:
        threshold = threshold_for((restorer.info.precision, FULL), in_8_bits=2)
        for image in map(picture, COMPARED):
            pair = to_unit(restorer(image)), to_unit(exact(image))
            found = compare(*pair, to_unit(image))
            errors.append(found.max_error_levels)
            decibels.append(found.psnr)
            if faults := threshold.faults(found):
                where = f"picture of {image.shape[0]}x{image.shape[1]} against {reference} {FULL}"
                raise FaultError(f"{where} | {'; '.join(faults)}", max_error_levels=errors[-1])
    return {
        "reference": reference,
        "max_error_levels": max(errors),
        "psnr_db": min(decibels),
    }


def agree_in_tiles(setting: Setting) -> Numbers:
    """Compare a picture restored in tiles of 512 with the same picture restored whole."""
    image = picture(setting.frame)
    with setting.open(tile="off") as restorer:
        whole = restorer(image)
    with setting.open(tile=TILE) as restorer:
        plan, tiled = restorer.plan(*setting.frame), restorer(image)
    check_restored(tiled, image)
    numbers = {"tiles": plan.tiles, "psnr_db": psnr(tiled, whole, peak=255)}
    if plan.tiles < 2:
        raise FaultError(f"plan | {plan} | expected tiles of {TILE}", **numbers)
    if not numbers["psnr_db"] >= LEAST_DB:
        raise FaultError(
            f"tiles of {TILE} | {numbers['psnr_db']:.1f} dB to the whole picture | expected "
            f"{LEAST_DB:.0f} or more",
            **numbers,
        )
    return numbers


def run_on_second_gpu(setting: Setting) -> Numbers:
    """Restore on two GPUs at once; the results may differ by rounding."""
    image = picture(SMALL)
    with setting.open(device=0) as first, setting.open(device=1) as second:
        futures = [restorer.submit(image) for restorer in (first, second)]
        restored = [future.result() for future in futures]
        device, precision = second.info.device, second.info.precision
    check_restored(restored[1], image)
    if not device.startswith("cuda:1"):
        raise FaultError(f"device=1 | runs on {device} | expected cuda:1")
    check_near(restored[1], restored[0], precision, "the two GPUs")
    return {"device": device, "max_difference_levels": largest_difference(*restored)}
