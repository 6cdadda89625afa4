"""Steps about time: per block of the network, against the bound, and lazy against eager kernels."""

from __future__ import annotations

import time
from statistics import median

from maxim_deploy.accept.engine import engine_backend, median_ms
from maxim_deploy.accept.step import SMALL, CannotRunError, FaultError, Numbers, Setting
from maxim_deploy.benchmarks.profile.bundle_profile import profile_bundle
from maxim_deploy.benchmarks.roofline import Roofline
from maxim_deploy.benchmarks.runners import runner_of
from maxim_deploy.benchmarks.timing import turn, warm_up
from maxim_deploy.benchmarks.workload import Workload
from maxim_deploy.parity.metrics import psnr
from maxim_deploy.runtime import RestorerInfo
from maxim_deploy.runtime.cuda import open_cuda
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.profiles import Shape

LONGEST_WARM_UP_S = 20.0
TIMED_S = 2.0

SLOWEST = 10.0
"""Largest ratio of the time to the bound. Networks took 1.6 to 2.5 times their bound on CPUs, and 4
times on a busy CPU. Launches on a GPU add as much. A larger ratio means that the network runs
elsewhere, or not as it was built."""

FASTEST = 0.9
"""Smallest ratio of the time to the time of the products alone. Only a wrong clock gives less."""

UNPLACED = 0.05
"""Share of the time that may belong to no block."""

LAZY = 1.25
"""Largest ratio of lazy to eager kernels. After its warm-up a shape must run the kernels that were
compiled for it."""

LEAST_DB = 60.0
"""Least PSNR of lazy to eager kernels in dB, in the network's own form. Only rounding in float16
may differ."""


def profile_by_block(setting: Setting) -> Numbers:
    """Measure the time per node with the library's profiler, and map each node to its block."""
    info, bundle = _info(setting), Bundle.open(setting.bundle)
    # Shares on a CPU do not depend on the size. On a GPU, launches dominate at a small size.
    size = setting.frame if setting.spec.is_on_gpu else SMALL
    profile = profile_bundle(bundle, info.precision, size, setting.backend, io=info.io, runs=3)
    blocks = profile.by_block()
    numbers = {
        "wall_ms": profile.wall_ms,
        "unplaced_ms": profile.unattributed_ms,
        "blocks_ms": blocks,
    }
    if not blocks:
        raise FaultError("profile | no time belongs to a block", **numbers)
    if profile.unattributed_ms > UNPLACED * profile.nodes_ms:
        raise FaultError(
            f"profile | {profile.unattributed_ms:.3g} of {profile.nodes_ms:.3g} ms belong to no "
            f"block | expected {UNPLACED:.0%} at most",
            **numbers,
        )
    return numbers


def compare_with_bound(setting: Setting) -> Numbers:
    """Compare the network's time with the lower bound on this machine."""
    info, on_gpu = _info(setting), setting.spec.is_on_gpu
    workload = Workload(
        setting.backend, setting.bundle, setting.frame, info.precision, on_gpu=on_gpu
    )
    network = runner_of(workload).brackets["network"]
    warm_up(network, LONGEST_WARM_UP_S)
    times = turn(network, TIMED_S)
    p50 = median(one.wall_ms if one.gpu_ms is None else one.gpu_ms for one in times)
    bound, products = bounds_ms(setting, info)
    numbers = {"p50_ms": p50, "bound_ms": bound, "products_ms": products, "times": p50 / bound}
    if not FASTEST * products <= p50 <= SLOWEST * bound:
        raise FaultError(
            f"time of {setting.frame[0]}x{setting.frame[1]} | {p50:.3g} ms | expected "
            f"{FASTEST * products:.3g} (the products alone) to {SLOWEST * bound:.3g} "
            f"({SLOWEST:g} times the bound)",
            **numbers,
        )
    return numbers


def bounds_ms(setting: Setting, info: RestorerInfo) -> tuple[float, float]:
    """Lower bounds for a large picture on this machine: (sum over nodes, products only).

    Raises:
        CannotRunError: the machine's ceilings or the graph's cost are not available.
    """
    bundle, said = Bundle.open(setting.bundle), list[str]()
    graph = bundle.path / bundle.graph(info.precision, info.io).file
    pixels = Shape(1, *setting.frame).padded_pixels
    # `p50_ms` affects only the share, which is not used here.
    cost = Roofline(None, said.append).cost(
        graph,
        info.io,
        pixels=pixels,
        device=info.device,
        precision=info.precision,
        p50_ms=1.0,
    )
    if cost is None:
        raise CannotRunError(f"no bound | {'; '.join(said)}")
    return cost["bound_ms"], cost["fused_bound_ms"]


def _info(setting: Setting) -> RestorerInfo:
    with setting.open() as restorer:
        return restorer.info


def compare_lazy_with_eager(setting: Setting) -> Numbers:
    """Run lazily and eagerly compiled kernels: speed and results must be the same."""
    cuda, results, numbers = open_cuda(), [], {}
    for kind in ("eager", "lazy"):
        begin = time.perf_counter()
        # Without the cache on disk: otherwise the second kind would use kernels of the first.
        runtime = {"specialization": kind, "runtime_cache": False}
        with engine_backend(setting, cuda, **runtime) as (backend, image):
            for _ in range(backend.warmup_runs):
                restored = backend.run(image)
            numbers[f"{kind}_ready_s"] = time.perf_counter() - begin
            numbers[f"{kind}_ms"] = median_ms(lambda: backend.run(image))
            results.append(restored)
            peak = 255 if backend.io == "image" else 1
    if numbers["lazy_ms"] > LAZY * numbers["eager_ms"]:
        raise FaultError(
            f"lazy kernels | {numbers['lazy_ms']:.3g} ms after their warm-up | expected at most "
            f"{LAZY:g} times the {numbers['eager_ms']:.3g} ms of eager kernels",
            **numbers,
        )
    if not (decibels := psnr(*results, peak=peak)) >= LEAST_DB:
        raise FaultError(f"lazy kernels | {decibels:.1f} dB to eager ones", **numbers)
    return numbers
