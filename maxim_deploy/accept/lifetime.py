"""Steps about process lifetime: closing early, being killed, and caching kernels."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from maxim_deploy.accept.step import (
    SMALL,
    FaultError,
    Numbers,
    Setting,
    check_near,
    check_restored,
    picture,
)
from maxim_deploy.errors import BackendError
from maxim_deploy.machine.processes import how_it_ended, python_process
from maxim_deploy.runtime import Restorer
from maxim_deploy.spec.engines import ENGINE_FOLDER

JOBS = 6
CLOSE_S = 20.0
"""Seconds that closing may take beyond the jobs that were submitted before."""

RUNS_ON_S = 0.5
"""Seconds until a process is killed, so that it is in the middle of a run."""

CACHES = "runtime-cache"


def close_at_once(setting: Setting) -> Numbers:
    """Close while jobs run: they finish, memory is released, and later calls fail."""
    image = picture(SMALL)
    restorer = setting.open()
    begin = time.perf_counter()
    restorer(image)
    one_s = time.perf_counter() - begin
    futures = [restorer.submit(image) for _ in range(JOBS)]
    begin = time.perf_counter()
    restorer.close()
    took = time.perf_counter() - begin
    numbers = {"jobs": JOBS, "one_s": one_s, "close_s": took}
    if took > CLOSE_S + JOBS * one_s:
        raise FaultError(f"close() | took {took:.0f} s for {JOBS} jobs of {one_s:.1f} s", **numbers)
    _check_finished(futures, numbers)
    _check_closed(restorer)
    return numbers


def _check_finished(futures: Sequence[Future[Any]], numbers: Numbers) -> None:
    left = sum(not future.done() for future in futures)
    if left:
        raise FaultError(f"close() | left {left} of {JOBS} jobs unfinished", **numbers)
    for future in futures:
        check_restored(future.result(), picture(SMALL))


def _check_closed(restorer: Restorer) -> None:
    try:
        restorer(picture(SMALL))
    except BackendError:
        return
    raise FaultError("a call after close() | returned a picture | expected an error")


def kill_and_start_again(setting: Setting) -> Numbers:
    """Kill a process during a run, then restore the same picture in another process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "restored.npy"
        command = python_process("-m", __name__, setting.bundle, setting.backend, file)
        process = subprocess.Popen(**command, stdout=subprocess.PIPE)  # our own module
        try:
            assert process.stdout is not None
            # The line comes after the first result is written. An empty line means that the process
            # has ended.
            line = process.stdout.readline()
            time.sleep(RUNS_ON_S)
        finally:
            process.kill()
            process.communicate()
        if not line:
            raise FaultError(f"the process to kill {how_it_ended(process.returncode)} by itself")
        before = np.load(file)
    begin = time.perf_counter()
    with setting.open() as restorer:
        restored, precision = restorer(picture(SMALL)), restorer.info.precision
    numbers = {"again_s": time.perf_counter() - begin}
    check_near(restored, before, precision, "results before and after a kill", **numbers)
    return numbers


def run_until_killed(bundle: str, backend: str, file: str) -> None:
    """Write the first result, print a line on stdout, and continue running."""
    with Setting(bundle, backend).open() as restorer:
        np.save(file, restorer(picture(SMALL)))
        sys.stdout.write("running\n")
        sys.stdout.flush()
        while True:
            restorer(picture(SMALL))


def keep_compiled_kernels(setting: Setting) -> Numbers:
    """Load twice: the second run must use the kernels that TensorRT for RTX cached in the first."""
    folder = Path(setting.bundle) / ENGINE_FOLDER / CACHES
    for old in folder.glob("*.cache"):
        old.unlink()
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        with setting.open() as restorer:
            restorer(picture(SMALL))
        times.append(time.perf_counter() - begin)
    size = sum(file.stat().st_size for file in folder.glob("*.cache"))
    numbers = {"cache_bytes": size, "first_s": times[0], "second_s": times[1]}
    if not size:
        raise FaultError("compiled kernels | were not saved in engines/runtime-cache", **numbers)
    return numbers


if __name__ == "__main__":
    run_until_killed(*sys.argv[1:])
