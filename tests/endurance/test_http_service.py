"""The scripts beside this for `maxim-deploy serve`, at their full length."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(HERE.parent), str(HERE.parents[1])])
    return subprocess.run(
        [sys.executable, str(HERE / name), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.extended
def test_ten_thousand_requests(demo_bundle: Path, every_processor: None, record_property) -> None:
    found = script("http_service.py", demo_bundle)
    record_property("found", found.stdout)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.extended
def test_what_http_adds(demo_bundle: Path, every_processor: None, record_property) -> None:
    found = script("http_latency.py", demo_bundle)
    record_property("found", found.stdout)
    assert found.returncode == 0, found.stdout + found.stderr
    # Processor time, because it is about the same at any load.
    ratio = re.search(r"processor: .* ratio ([\d.]+)", found.stdout)
    assert ratio and float(ratio[1]) < 1.1
