"""A restorer under load: pictures per second, and the latency of each picture.

*Closed loop*: a number of callers, each with one picture after the other. It finds the highest
rate. But each caller waits for its own picture, so a slow picture delays the next ones and hides
their waiting time.

*Open loop*: pictures arrive at random (Poisson) with a given mean rate, as from many people. They
arrive whether or not earlier pictures are done, and a number of callers serve them in order. The
latency of a picture counts from its arrival, not from the time when a caller was free for it
(G. Tene: "coordinated omission").
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from maxim_deploy.benchmarks.summary import summary
from maxim_deploy.errors import UsageError

SHARES = (0.5, 0.8)
"""Arrival rates of the open loops, as shares of the closed loop's rate."""

SEED = 0

Clock = Callable[[], float]


def under_load(
    call: Callable[[], object], mode: str, callers: int, seconds: float, rate: float | None = None
) -> dict[str, Any]:
    """Call from several threads for some seconds.

    Args:
        call: restores one picture; several threads may call it.
        mode: "closed" or "open".
        callers: number of threads.
        seconds: time in which calls begin, or pictures arrive. All calls are awaited.
        rate: mean number of pictures per second in the open loop.

    Returns:
        An entry of `load` in a record.

    Raises:
        UsageError: the mode is unknown, or open without a rate.
        BaseException: the error of a call.
    """
    if mode == "closed":
        latencies, took = closed_loop(call, callers, seconds)
    elif mode == "open" and rate:
        latencies, took = open_loop(call, arrivals(rate, seconds), callers)
    else:
        raise UsageError(
            f"load {mode!r} with rate {rate!r} | expected 'closed', or 'open' with a rate"
        )
    return {
        "mode": mode,
        "callers": callers,
        "offered_per_s": rate,
        "images_per_s": len(latencies) / took,
        "latency": summary([1e3 * latency for latency in latencies]),
    }


def arrivals(rate: float, seconds: float) -> list[float]:
    """Arrival times in seconds from a Poisson process; at least one, the same in every call."""
    draw = random.Random(SEED)  # noqa: S311  # no secret
    times = [draw.expovariate(rate)]
    while times[-1] < seconds:
        times.append(times[-1] + draw.expovariate(rate))
    return times[:-1] or times


def closed_loop(
    call: Callable[[], object], callers: int, seconds: float, clock: Clock = time.perf_counter
) -> tuple[list[float], float]:
    """Latencies in seconds, in no order, and the seconds until the last call was done."""
    latencies: list[float] = []
    start = clock()

    def caller() -> None:
        while (began := clock()) - start < seconds:
            call()
            latencies.append(clock() - began)

    _in_threads(caller, callers)
    return latencies, clock() - start


def open_loop(
    call: Callable[[], object],
    times: Sequence[float],
    callers: int,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[list[float], float]:
    """As `closed_loop`, for pictures that arrive at `times`, in seconds from the start."""
    latencies: list[float] = []
    waiting, turn = iter(times), threading.Lock()
    start = clock()

    def caller() -> None:
        while True:
            # An iterator is not safe to share, and two callers must not serve one picture.
            with turn:
                arrival = next(waiting, None)
            if arrival is None:
                return
            # Late callers do not sleep. Their picture has waited since its arrival, and its latency
            # includes that time.
            sleep(max(0.0, start + arrival - clock()))
            call()
            latencies.append(clock() - start - arrival)

    _in_threads(caller, callers)
    return latencies, clock() - start


def _in_threads(caller: Callable[[], None], count: int) -> None:
    """Run `caller` in `count` threads; raises the first error of a thread."""
    # Libraries release the GIL while they compute, so threads suffice as callers.
    with ThreadPoolExecutor(count) as pool:
        for caller_ends in [pool.submit(caller) for _ in range(count)]:
            caller_ends.result()
