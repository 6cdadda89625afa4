"""What HTTP adds to a picture: the service beside `Restorer` with decoding and encoding.

    python tests/endurance/http_latency.py BUNDLE [--size 256x256] [--rounds 60]

One picture at a time, by turns: over a kept connection from a service of another process, and in
this one. Prints the median of both in milliseconds, their ratio, and the load of the machine.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from serving.http_services import content, serving_process

from maxim_deploy import Restorer, load
from maxim_deploy.serving.http.coding import content_from, order_from


def direct(restorer: Restorer, sent: bytes) -> bytes:
    """Decode, restore and encode in this thread."""
    order = order_from(sent, "PNG", 10**9)
    return content_from(order, restorer(order.pixels))


def by_http(connection: http.client.HTTPConnection, sent: bytes) -> bytes:
    """The same by the service."""
    connection.request("POST", "/restore", sent)
    reply = connection.getresponse()
    assert reply.status == 200
    return reply.read()


def timed(work: Callable[[], bytes], times: list[float]) -> None:
    """Once, in milliseconds."""
    began = time.perf_counter()
    assert len(work()) > 100
    times.append(1000 * (time.perf_counter() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--format", default="PNG")
    asked = parser.parse_args()
    height, width = map(int, asked.size.split("x"))
    sent = content((height, width), asked.format)
    # Threads that wait in a loop would take the processor from the other process.
    with (
        serving_process(asked.bundle, "--no-spinning", "--backend", "onnxruntime") as (_, client),
        load(asked.bundle, backend="onnxruntime", spinning=False) as restorer,
    ):
        connection = client.connection()
        ours, theirs = list[float](), list[float]()
        assert direct(restorer, sent) == by_http(connection, sent)
        gc.disable()
        for number in range(-5, asked.rounds):  # the first few are for warming up
            a, b = (ours, theirs) if number >= 0 else ([], [])
            pair = [(lambda: direct(restorer, sent), a), (lambda: by_http(connection, sent), b)]
            for work, times in pair if number % 2 else reversed(pair):
                timed(work, times)
        connection.close()
    p50, served = statistics.median(ours), statistics.median(theirs)
    print(
        f"{asked.size} {asked.format}: {p50:.2f} ms direct, {served:.2f} ms by HTTP, "
        f"ratio {served / p50:.3f}, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
