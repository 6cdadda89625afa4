"""What others use of the processors, from counters that stand in for the system's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from maxim_deploy.machine import other_load
from maxim_deploy.machine.other_load import LoadWatch


class Counters:
    """`/proc/stat` of two processors, and the clocks; each look is later by a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path, self.busy, self.own, self.now = path, [0, 0], 0.0, 0.0
        monkeypatch.setattr(other_load, "_STAT", path)
        monkeypatch.setattr(other_load.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
        monkeypatch.setattr(other_load.os, "sysconf", lambda _: 100)
        monkeypatch.setattr(other_load.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(other_load.time, "process_time", lambda: self.own)
        monkeypatch.setattr(other_load, "visible_processors", lambda: 2)
        monkeypatch.setattr(other_load, "usable_processors", lambda: 2)
        self.write()

    def write(self) -> None:
        lines = [f"cpu{n} {ticks} 0 0 999 9 0 0 0 5 0" for n, ticks in enumerate(self.busy)]
        # Another processor, which this process may not run on.
        self.path.write_text("\n".join(["cpu  7 7 7", *lines, "cpu2 99999 0 0 0 0 0 0 0 0 0"]))

    def pass_by(self, seconds: float, *others: float, own: float = 0.0) -> None:
        for number, share in enumerate(others):
            self.busy[number] += round(100 * seconds * share)
        self.busy[0] += round(100 * seconds * own)
        self.now, self.own = self.now + seconds, self.own + own * seconds
        self.write()


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Counters:
    return Counters(monkeypatch, tmp_path / "stat")


@pytest.mark.parametrize(
    ("others", "own", "found", "shared"),
    [((0, 0), 0.9, 0.0, False), ((0, 1), 0.9, 1.0, True), ((0.1, 0.1), 0, 0.2, False)],
)
def test_what_is_not_ours_is_others(counters, others, own, found, shared) -> None:
    watch = LoadWatch()
    counters.pass_by(2.0, *others, own=own)
    assert watch.others() == pytest.approx(found) and watch.is_shared() == shared


def test_beside_a_quota_others_may_have_the_rest(counters, monkeypatch) -> None:
    monkeypatch.setattr(other_load, "usable_processors", lambda: 1)
    watch = LoadWatch()
    counters.pass_by(1.0, 0, 1)
    assert not watch.is_shared()
    counters.pass_by(1.0, 1, 1)
    assert watch.is_shared()


def test_where_the_system_does_not_tell_nobody_is_seen(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(other_load, "_STAT", tmp_path / "none")
    watch = LoadWatch()
    assert watch.others() is None and not watch.is_shared()


def test_another_process_is_seen() -> None:
    if not Path("/proc/stat").exists():
        pytest.skip("this system has no /proc/stat")
    burn = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    watch = LoadWatch()
    with subprocess.Popen([sys.executable, "-c", burn]) as process:
        try:
            # Other tests may run as well: this one only adds to what they use.
            assert any((watch.others() or 0.0) > 0.05 for _ in range(100))
        finally:
            process.kill()
