"""TensorRT's real Python bindings, with stubs in place of the libraries that they load.

Bindings can be installed anywhere, their libraries cannot. Stubs of a few lines of C let them be
imported: names, flags, signatures and subclasses are then the real ones, and whatever would need
the library fails. The bindings are fetched once and kept in pytest's cache. Two of them cannot be
imported by one process, so that each is tried in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

TESTS = Path(__file__).parent

STUB = """
#include <pthread.h>
#include <time.h>

typedef void (*Log)(void *, int, const char *);
int pthread_timedjoin_np(pthread_t, void **, const struct timespec *);
int logged = -1;  /* whether a thread of the library's could log during the last call */

static void *log_error(void *logger) {
    (*(Log **)logger)[0](logger, 1, "said by a thread of the library's");
    return 0;
}

void *createInferRuntime_INTERNAL(void *logger, int version) {
    pthread_t thread;
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 1;
    pthread_create(&thread, 0, log_error, logger);
    logged = !pthread_timedjoin_np(thread, 0, &end);
    return 0;
}

void *createInferBuilder_INTERNAL(void *logger, int version) { return 0; }
void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return 0; }
void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return 0; }
void *getBuilderPluginRegistry(int capability) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void *logger, const char *space) { return 1; }
"""


@dataclass(frozen=True)
class Bindings:
    """A wheel of bindings.

    Attributes:
        wheel: as pip takes it.
        package: that it installs.
        module: by which users import it.
        libraries: that it loads.
    """

    wheel: str
    package: str
    module: str
    libraries: tuple[str, ...]


def _of_tensorrt(wheel: str, major: int) -> Bindings:
    names = ("libnvinfer.so", "libnvonnxparser.so", "libnvinfer_plugin.so")
    libraries = tuple(f"{name}.{major}" for name in names)
    return Bindings(wheel, "tensorrt_bindings", "tensorrt", libraries)


BINDINGS = {
    "tensorrt-10.12": _of_tensorrt("tensorrt-cu12-bindings==10.12.0.36", 10),
    "tensorrt-11.4": _of_tensorrt("tensorrt-cu13-bindings==11.4.0.106", 11),
    "tensorrt-rtx-1.4": Bindings(
        "tensorrt-rtx-cu12-bindings==1.4.0.76",
        "tensorrt_rtx_bindings",
        "tensorrt_rtx",
        ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
    ),
}
"""By library and version."""


def environment(name: str, cache: Path) -> dict[str, str]:
    """Variables with which a child process imports some bindings; skips where they cannot be had.

    Args:
        name: a key of `BINDINGS`.
        cache: folder that outlives the run.
    """
    folder = cache / name
    with FileLock(cache / f"{name}.lock"):
        if not folder.exists():
            _prepare(BINDINGS[name], cache / f"{name}.part")
            (cache / f"{name}.part").rename(folder)
    path = os.pathsep.join([str(folder), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "LD_LIBRARY_PATH": str(folder)}


def _prepare(bindings: Bindings, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    _run_or_skip([*pip, bindings.wheel], f"{bindings.wheel} cannot be installed")
    (folder / f"{bindings.module}.py").write_text(
        f"from {bindings.package} import *\nfrom {bindings.package} import __version__\n"
    )
    source = folder / "stub.c"
    source.write_text(STUB)
    for library in bindings.libraries:
        cc = ["cc", "-shared", "-fPIC", "-pthread", "-o", str(folder / library), str(source)]
        _run_or_skip(cc, "there is no C compiler")


def _run_or_skip(command: list[str], why: str) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{why}: no {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{why}: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
