from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from maxim_deploy.machine.memory import (
    forget_peak,
    kibibytes,
)

pytestmark = pytest.mark.xdist_group("measuring")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def test_a_line_of_proc() -> None:
    text = "Name:\tpython\nVmHWM:\t   1234 kB\nVmRSS:\t   99 kB\n"
    assert kibibytes(text, "VmHWM") == 1234
    with pytest.raises(KeyError, match="VmSwap"):
        kibibytes(text, "VmSwap")


PEAKS = """
import numpy
from maxim_deploy.machine.memory import *
before = resident_bytes()
block = numpy.ones(8_000_000)
del block
stays = peak_resident_bytes() - before
forget_peak()
print(stays, peak_resident_bytes() - before)
"""


@linux_only
def test_the_peak_stays_when_the_memory_is_given_back_until_it_is_forgotten() -> None:
    """In a process of its own: one that has freed much keeps such a block for later."""
    child = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True)
    stays, forgotten = map(int, child.stdout.split())
    assert stays >= 60_000_000 and forgotten <= 30_000_000


def test_a_system_that_keeps_the_peak_is_no_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("maxim_deploy.machine.memory._CLEAR", tmp_path / "none" / "clear_refs")
    forget_peak()


@linux_only
def test_a_small_child_of_a_large_parent_reports_itself() -> None:
    block = np.ones(50_000_000)  # 400 MB
    script = "from maxim_deploy.machine.memory import *; print(peak_resident_bytes())"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert int(child.stdout) < block.nbytes / 2, child.stderr
