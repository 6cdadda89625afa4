"""Requests of many callers to `maxim-deploy serve`; some leave, some send garbage; nothing leaks.

    python tests/endurance/http_service.py BUNDLE [--requests 10000] [--callers 16] [--seed 0]

Each picture that comes back is compared with what `Restorer` gives. Every other answer has a
reason. Memory, open files and threads of the service are, at the end, what they were after the
first five hundred requests. It reads /proc.
"""

from __future__ import annotations

import argparse
import faulthandler
import http.client
import io
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from serving.http_services import Client, content, serving_process

from maxim_deploy import load

SIZES = ((64, 64), (37, 90), (128, 128), (1, 1), (100, 140), (200, 140))
FORMATS = ("PNG", "JPEG", "WebP", "TIFF", "BMP")
GARBAGE = (
    (b"", 400),
    (b"hello", 415),
    (content()[:2000], 400),
    (content(image_format="JPEG")[:900], 400),
    (bytes(3_000_001), 413),
    (content((300, 401)), 413),
)
LIMITS = ("--max-bytes", 3_000_000, "--max-pixels", 120_000)
TOLERANCE = 1
"""Levels. A picture that another one passes, or that runs in another lane, may round otherwise."""


@dataclass(frozen=True)
class Sample:
    """A file, and the pixels that come back for it."""

    sent: bytes
    expected: np.ndarray


@dataclass
class Callers:
    """Threads that send requests.

    Attributes:
        counts: how many of each kind have ended how.
        faults: what must not be, in words.
    """

    client: Client
    samples: list[Sample]
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def run(self, requests: int, callers: int, seed: int) -> None:
        """So many requests by so many callers."""
        each = [requests // callers + (k < requests % callers) for k in range(callers)]
        threads = [
            threading.Thread(target=self._work, args=(count, random.Random(seed * 1000 + k)))
            for k, count in enumerate(each)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, count: int, chance: random.Random) -> None:
        connection = self.client.connection()
        for _ in range(count):
            number = chance.random()
            kind = "leave" if number < 0.01 else "garbage" if number < 0.02 else "picture"
            try:
                ending = getattr(self, f"_{kind}")(connection, chance)
            except Exception as error:  # whatever it is, the others go on
                ending = "fault"
                self.faults.append(f"{kind}: {type(error).__name__}: {error}")
                connection.close()
            self.counts[f"{kind}: {ending}"] += 1
        connection.close()

    def _picture(self, connection: http.client.HTTPConnection, chance: random.Random) -> str:
        sample = chance.choice(self.samples)
        connection.request("POST", "/restore", sample.sent)
        reply = connection.getresponse()
        body = reply.read()
        if reply.status == 503:
            assert "pictures are under way" in json.loads(body)["error"]
            time.sleep(0.02)
            return "busy"
        assert reply.status == 200, body
        restored = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)
        assert restored.shape == sample.expected.shape, restored.shape
        off = np.abs(restored - sample.expected).max()
        assert off <= TOLERANCE, f"{off} levels off"
        return "restored"

    def _garbage(self, connection: http.client.HTTPConnection, chance: random.Random) -> str:
        sent, status = chance.choice(GARBAGE)
        connection.request("POST", "/restore", sent)
        reply = connection.getresponse()
        body = reply.read()
        assert json.loads(body)["error"]
        assert reply.status in (status, 503), (reply.status, body)
        return "busy" if reply.status == 503 else "refused"

    def _leave(self, connection: http.client.HTTPConnection, chance: random.Random) -> str:
        connection.close()  # it is opened again by its next request
        leaving = self.client.begin(chance.choice(self.samples).sent)
        time.sleep(chance.choice((0, 0.002, 0.01, 0.05)))
        leaving.close()
        return "left"


def samples_of(bundle: Path) -> list[Sample]:
    """Pictures of some sizes and formats, with what `Restorer` makes of them."""
    found = []
    with load(bundle, backend="onnxruntime") as restorer:
        for size in SIZES:
            for image_format in FORMATS:
                sent = content(size, image_format)
                pixels = np.asarray(Image.open(io.BytesIO(sent)).convert("RGB"))
                found.append(Sample(sent, restorer(pixels).astype(int)))
    return found


def state_of(process: int) -> dict[str, int]:
    """Resident kibibytes, open files and threads of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    files = len([*Path(f"/proc/{process}/fd").iterdir()])
    return {
        "resident KiB": int(fields["VmRSS"].split()[0]),
        "open files": files,
        "threads": int(fields["Threads"]),
    }


def settled(client: Client, process: int) -> dict[str, int]:
    """The state once nothing is under way."""
    limit = time.monotonic() + 60
    while b"maxim_requests_in_progress 0.0" not in client.get("/metrics").body:
        assert time.monotonic() < limit, "requests stay under way"
        time.sleep(0.1)
    time.sleep(6)  # connections that wait for another request are closed after five seconds
    client.get("/healthz")
    time.sleep(0.5)
    return state_of(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--queue", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    faulthandler.dump_traceback_later(3600, exit=True)
    samples = samples_of(asked.bundle)
    options = (asked.bundle, "--backend", "onnxruntime", "--queue", asked.queue, *LIMITS)
    with serving_process(*options) as (process, client):
        callers = Callers(client, samples)
        callers.run(500, asked.callers, asked.seed + 1)
        before = settled(client, process.pid)
        began = time.monotonic()
        callers.run(asked.requests, asked.callers, asked.seed)
        seconds = time.monotonic() - began
        after = settled(client, process.pid)
        health = client.get("/healthz").status
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    print(f"{asked.requests} requests in {seconds:.0f} s")
    for name, was in before.items():
        print(f"{name}: {was} before, {after[name]} after")
    for what, count in sorted(callers.counts.items()):
        print(f"{count:6} {what}")
    faults = callers.faults
    # A tenth more is what the allocator keeps for threads.
    if after["resident KiB"] > 1.1 * before["resident KiB"] + 20_000:
        faults.append("it leaks memory")
    faults += [
        f"it leaks {name}" for name in ("open files", "threads") if after[name] > before[name]
    ]
    faults += ["it is not well"] * (health != 200)
    faults += [f"exit code {process.returncode}: {err}"] * bool(process.returncode)
    for fault in faults[:20]:
        print(f"fault: {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
