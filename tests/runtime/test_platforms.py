"""The runtime on systems that are not Linux, as far as this one can play them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OTHER_SYSTEM = """
import os, pathlib, sys
# Only ours plays on another system, and is imported last.
import concurrent.futures, ctypes, difflib, hashlib, json, numpy, onnxruntime, psutil, tempfile

absent = "cuda fcntl grp posix pwd pty resource syslog termios tty _posixsubprocess"
for name in absent.split():
    sys.modules[name] = None  # importing it now fails
for name in "fork getloadavg getuid pread sched_getaffinity sched_setaffinity sysconf".split():
    delattr(os, name)

def refuse(name):
    original = getattr(pathlib.Path, name)
    def method(path, *arguments, **options):
        if str(path).startswith(("/proc", "/sys")):
            if name == "exists":
                return False
            raise FileNotFoundError(str(path))
        return original(path, *arguments, **options)
    setattr(pathlib.Path, name, method)

for name in ("exists", "is_file", "is_dir", "open", "read_bytes", "read_text", "write_text"):
    refuse(name)
sys.platform = sys.argv[2]

import maxim_deploy
picture = numpy.random.default_rng(0).integers(0, 255, (70, 130, 3), numpy.uint8)
with maxim_deploy.load(sys.argv[1], max_memory="2GiB") as restorer:
    whole = restorer(picture)
    assert whole.shape == picture.shape
    assert (restorer.submit(picture).result() == whole).all()
    plan = restorer.plan(2000, 3000)
    assert plan.tiles > 1 and plan.bytes < 2 * 2**30, plan
    assert restorer.plan(*picture.shape[:2]).tiles == 1
with maxim_deploy.load(sys.argv[1]) as restorer:
    assert (restorer(picture) == whole).all()
try:
    with maxim_deploy.load(sys.argv[1], max_memory="1MB") as restorer:
        restorer(picture)
except maxim_deploy.MaximDeployError as error:
    assert "max_memory" in str(error), error
else:
    raise AssertionError("1 MB is not enough")

from maxim_deploy.machine.facts import environment
facts = environment()
assert facts["ram_bytes"] > 2**28 and facts["cpus"] == os.cpu_count()
assert "load_average_1m" in facts and facts["load_average_1m"] is None
print("restored")
"""


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_the_runtime_needs_neither_proc_nor_posix(demo_bundle: Path, platform: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_SYSTEM, str(demo_bundle), platform],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout == "restored\n", done.stderr
