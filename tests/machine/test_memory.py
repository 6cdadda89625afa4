from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from maxim_deploy.errors import BackendError
from maxim_deploy.machine import memory
from maxim_deploy.machine.memory import (
    available_bytes,
    forget_peak,
    kibibytes,
    peak_resident_bytes,
    resident_bytes,
    total_bytes,
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


@pytest.fixture
def no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_STATUS", "_CLEAR", "_SYSTEM"):
        monkeypatch.setattr(memory, name, tmp_path / "none")


@linux_only
def test_psutil_says_the_same_as_proc(no_proc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = resident_bytes(), total_bytes(), available_bytes()
    monkeypatch.undo()
    resident, total, available = told
    assert resident == pytest.approx(resident_bytes(), rel=0.1)
    assert total == total_bytes()
    assert 0 < available < total


def test_the_peak_where_there_is_no_proc(no_proc: None, monkeypatch: pytest.MonkeyPatch) -> None:
    info = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=5, peak_wset=7))
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=9))
    monkeypatch.setattr(memory, "require", lambda *_: SimpleNamespace(Process=lambda: info))
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(memory.sys, "platform", "win32")
    assert (resident_bytes(), peak_resident_bytes()) == (5, 7)
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "resource", usage)
    assert (resident_bytes(), peak_resident_bytes()) == (5, 9)
    monkeypatch.setattr(memory.sys, "platform", "sunos5")
    with pytest.raises(BackendError, match="not available on this platform, sunos5"):
        peak_resident_bytes()
    forget_peak()
