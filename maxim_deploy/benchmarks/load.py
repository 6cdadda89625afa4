"""A restorer under load: how many pictures per second, and how long each one takes then.

*Closed loop*: so many callers, each with one picture after the other. It finds the most that the
restorer can do, but each caller waits for its own picture, so a slow one delays those that would
have come after it and hides their waiting.

*Open loop*: pictures arrive as they would from many people, at random (Poisson) with a given mean
rate, whether the ones before are done or not; so many callers serve them in turn. The time of a
picture begins when it should have arrived, not when a caller was free for it (G. Tene: "coordinated
omission").
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
"""Rates that are offered in the open loop, as shares of what the closed loop reached."""

SEED = 0

Clock = Callable[[], float]


def under_load(
    call: Callable[[], object], mode: str, callers: int, seconds: float, rate: float | None = None
) -> dict[str, Any]:
    """Call from several threads for some seconds.

    Args:
        call: restores one picture; may be called from several threads.
        mode: "closed" or "open".
        callers: number of threads.
        seconds: during which calls begin, or pictures arrive; all are waited for.
        rate: pictures per second on average, in the open loop.

    Returns:
        An entry of `load` in a record.

    Raises:
        UsageError: the mode is unknown, or open without a rate.
        Whatever a call raises.
    """
    if mode == "closed":
        latencies, took = closed_loop(call, callers, seconds)
    elif mode == "open" and rate:
        latencies, took = open_loop(call, arrivals(rate, seconds), callers)
    else:
        raise UsageError(f"load is 'closed', or 'open' with a rate, not {mode!r} with {rate!r}")
    return {
        "mode": mode,
        "callers": callers,
        "offered_per_s": rate,
        "images_per_s": len(latencies) / took,
        "latency": summary([1e3 * latency for latency in latencies]),
    }


def arrivals(rate: float, seconds: float) -> list[float]:
    """Seconds at which pictures arrive, a Poisson process; at least one, always the same."""
    draw = random.Random(SEED)  # noqa: S311  # no secret
    times = [draw.expovariate(rate)]
    while times[-1] < seconds:
        times.append(times[-1] + draw.expovariate(rate))
    return times[:-1] or times


def closed_loop(
    call: Callable[[], object], callers: int, seconds: float, clock: Clock = time.perf_counter
) -> tuple[list[float], float]:
    """Latencies in seconds, in no order, and the time until the last call was done."""
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
    """The same for pictures that arrive at these times, counted from the start."""
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
            # Late callers do not sleep. Their picture has waited since it arrived, and its latency
            # says so.
            sleep(max(0.0, start + arrival - clock()))
            call()
            latencies.append(clock() - start - arrival)

    _in_threads(caller, callers)
    return latencies, clock() - start


def _in_threads(caller: Callable[[], None], count: int) -> None:
    """Run it in so many threads; the first error of any of them is raised."""
    # A library releases the GIL while it computes, so threads are callers enough.
    with ThreadPoolExecutor(count) as pool:
        for caller_ends in [pool.submit(caller) for _ in range(count)]:
            caller_ends.result()
