"""Clients of a real Triton, run with the server's Python: `python triton_tasks.py TASK ...`.

Each task prints one object of JSON. It compares with a `Restorer` of its own process.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

import maxim_deploy

SIZES = ((1, 1), (1, 70), (33, 70), (64, 64), (100, 37), (128, 192), (256, 256), (300, 451))

EXAMPLE = Path(maxim_deploy.__file__).parents[1] / "deploy" / "triton" / "client.py"


def example() -> Any:
    """The client in the documentation."""
    spec = importlib.util.spec_from_file_location("client", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def client(url: str) -> tuple[Any, Any]:
    scheme, _, place = url.partition("://")
    module = getattr(tritonclient, scheme)
    return module, module.InferenceServerClient(place)


def apart(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8, (a.shape, b.shape)
    return int(np.abs(a.astype(int) - b).max())


def equal(http: str, grpc: str, model: str, bundle: str) -> dict[str, Any]:
    """Largest differences at each size, by the way that the pixels go."""
    way = example()
    found: dict[str, list[int]] = {}
    with maxim_deploy.load(bundle) as restorer:
        for url in (http, grpc):
            module, server = client(url)
            for restore in (way.restore_over_the_wire, way.restore_in_shared_memory):
                found[f"{url.partition(':')[0]} {restore.__name__}"] = [
                    apart(restore(module, server, model, picture), restorer(picture))
                    for picture in pictures(*SIZES)
                ]
            server.close()
    return {"numpy": np.__version__, "sizes": SIZES, "differences": found}


def mixed(http: str, grpc: str, model: str, bundle: str) -> dict[str, Any]:
    """24 requests of 8 callers, of eight sizes: in how many executions, and how far from alone."""
    module, server = client(grpc)
    sent = pictures(*SIZES) * 3
    before = executions(server, model)
    together = threading.Barrier(8)

    def ask(number: int) -> list[np.ndarray]:
        together.wait()
        return [over_the_wire(module, server, model, sent[k]) for k in range(number, 24, 8)]

    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(ask, range(8)))
    count = executions(server, model) - before
    with maxim_deploy.load(bundle) as restorer:
        worst = max(
            apart(answer, restorer(sent[number + 8 * turn]))
            for number, several in enumerate(answers)
            for turn, answer in enumerate(several)
        )
    server.close()
    return {"executions": count, "apart": worst}


def executions(server: Any, model: str) -> int:
    (one,) = server.get_inference_statistics(model, as_json=True)["model_stats"]
    return int(one.get("execution_count", 0))


def over_the_wire(module: Any, server: Any, model: str, picture: np.ndarray) -> np.ndarray:
    image = module.InferInput("image", [1, *picture.shape], "UINT8")
    image.set_data_from_numpy(picture[np.newaxis])
    restored: np.ndarray = server.infer(model, [image]).as_numpy("restored")[0]
    return restored


def latency(
    http: str, grpc: str, model: str, bundle: str, side: str, rounds: str
) -> dict[str, Any]:
    """Milliseconds of one caller, by the server and by a `Restorer`, in turn."""
    (picture,) = pictures((int(side), int(side)))
    times: dict[str, list[float]] = {"restorer": [], "http": [], "grpc": []}
    with maxim_deploy.load(bundle) as restorer:
        restorer.warmup([picture.shape[:2]])
        ways: dict[str, Callable[[], object]] = {"restorer": lambda: restorer(picture)}
        for url in (http, grpc):
            module, server = client(url)
            ways[url.partition(":")[0]] = partial(over_the_wire, module, server, model, picture)
        for number in range(int(rounds) + 1):
            for name, way in ways.items() if number % 2 else reversed(ways.items()):
                # Threads of the other process wait in a loop for a while after its run.
                time.sleep(0.05)
                began = time.perf_counter()
                way()
                times[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    return {
        "ms": medians,
        "ratio_http": medians["http"] / medians["restorer"],
        "ratio_grpc": medians["grpc"] / medians["restorer"],
    }


def throughput(
    http: str, grpc: str, model: str, bundle: str, side: str, seconds: str, rounds: str
) -> dict[str, Any]:
    """Pictures per second of 8 callers of the server and of a `Restorer`, in turn."""
    (picture,) = pictures((int(side), int(side)))
    module, server = client(grpc)
    found: dict[str, list[float]] = {"restorer": [], "server": []}
    with maxim_deploy.load(bundle) as restorer:
        restorer.warmup([picture.shape[:2]])
        ways: dict[str, Callable[[], object]] = {
            "restorer": lambda: restorer(picture),
            "server": lambda: over_the_wire(module, server, model, picture),
        }
        for _ in range(int(rounds)):
            for name, way in ways.items():
                time.sleep(0.2)
                found[name].append(per_second(way, float(seconds)))
        lanes = restorer.info.lanes
    ratios = [a / b for a, b in zip(found["server"], found["restorer"], strict=True)]
    return {
        "per_second": found,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "lanes": lanes,
    }


def per_second(way: Callable[[], object], seconds: float) -> float:
    done, lock = 0, threading.Lock()
    began = time.perf_counter()
    end = began + seconds

    def call() -> None:
        nonlocal done
        while time.perf_counter() < end:
            way()
            with lock:
                done += 1

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return done / (time.perf_counter() - began)


def one(http: str, grpc: str, model: str, bundle: str, side: str) -> dict[str, Any]:
    """One large picture; how far the answer is off."""
    (picture,) = pictures((int(side), int(side)))
    with maxim_deploy.load(bundle) as restorer:
        expected = restorer(picture)
    module, server = client(http)
    sys.stderr.write("sending\n")
    sys.stderr.flush()
    return {"apart": apart(over_the_wire(module, server, model, picture), expected)}


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    sys.stdout.write(json.dumps(globals()[task](*arguments)))
