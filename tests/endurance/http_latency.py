"""What HTTP adds to a picture: the service beside `Restorer` with decoding and encoding.

    python tests/endurance/http_latency.py BUNDLE [--size 256x256] [--rounds 60]

One picture at a time, by turns: over a kept connection from a service of another process, and in
this one. Prints the medians in milliseconds, their ratio, and the load of the machine. Beside other
busy processes the medians say little. So it prints processor time as well: of the service and the
client together, beside that of this process.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

from serving.http_services import content, serving_process

from maxim_deploy import Restorer, load
from maxim_deploy.serving.http.coding import content_from, order_from


def direct(restorer: Restorer, sent: bytes) -> bytes:
    """Decode, restore and encode in this thread."""
    order = order_from(sent, "PNG", 10**9)
    return content_from(order, restorer.submit(order.pixels).result())


def by_http(connection: http.client.HTTPConnection, sent: bytes) -> bytes:
    """The same by the service."""
    connection.request("POST", "/restore", sent)
    reply = connection.getresponse()
    assert reply.status == 200
    return reply.read()


@dataclass
class Timed:
    """Milliseconds of one way to restore a picture.

    Attributes:
        work: restores it once.
        processor_ms: processor time so far, of all processes that are at work.
        wall: of each round.
        processor: of each round.
    """

    work: Callable[[], bytes]
    processor_ms: Callable[[], float]
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def once(self) -> None:
        """One round."""
        busy, began = self.processor_ms(), time.perf_counter()
        assert len(self.work()) > 100
        self.wall.append(1000 * (time.perf_counter() - began))
        time.sleep(0.02)  # the service is done with the connection, too
        self.processor.append(self.processor_ms() - busy)


def processor_ms_of(process: int) -> float:
    """Of another process, in steps of the system's clock."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--format", default="PNG")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    height, width = map(int, asked.size.split("x"))
    sent = content((height, width), asked.format)
    threads = asked.threads
    # Threads that wait in a loop would take the processor from the other process.
    options = ("--no-spinning", "--backend", "onnxruntime", "--threads", threads)
    loading = {"backend": "onnxruntime", "spinning": False, "threads": threads}
    with (
        serving_process(asked.bundle, *options) as (process, client),
        load(asked.bundle, **loading) as restorer,
    ):
        connection = client.connection()
        ours = Timed(lambda: direct(restorer, sent), lambda: 1000 * time.process_time())
        theirs = Timed(
            lambda: by_http(connection, sent),
            lambda: 1000 * time.process_time() + processor_ms_of(process.pid),
        )
        assert ours.work() == theirs.work()
        gc.disable()
        for number in range(asked.rounds):
            for one in (ours, theirs) if number % 2 else (theirs, ours):
                one.once()
        connection.close()
    load_now = os.getloadavg()[0]
    for what, a, b in (
        ("median", median(ours.wall[3:]), median(theirs.wall[3:])),
        ("processor", mean(ours.processor[3:]), mean(theirs.processor[3:])),
    ):
        print(
            f"{asked.size} {asked.format} {what}: {a:.2f} ms direct, {b:.2f} ms by HTTP, "
            f"ratio {b / a:.3f}, load {load_now:.1f}"
        )


if __name__ == "__main__":
    main()
