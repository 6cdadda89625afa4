from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from maxim_deploy.benchmarks import handoff
from maxim_deploy.benchmarks.handoff import handoff_ns
from maxim_deploy.benchmarks.handoff_history import KEPT, recall

pytestmark = [pytest.mark.usefixtures("every_processor"), pytest.mark.xdist_group("measuring")]
several = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2,
    reason="needs two processors and a choice of them",
)


@several
def test_a_pass_takes_nanoseconds() -> None:
    """No processor passes a line on in less than 10 ns, and 2 us are the most between sockets."""
    found = [ns for ns in (handoff_ns(2) for _ in range(5)) if ns is not None]
    assert found and all(10 < ns < 2000 for ns in found)


@several
def test_every_pass_is_seen_by_every_processor() -> None:
    """A ring of processes: were one of them left out, or too early, the leader would not return."""
    counted = (
        "from maxim_deploy.benchmarks import handoff\n"
        "handoff.BLOCKS, handoff.TURNS = 3, 7\n"
        "seen = []\n"
        "leading = handoff._led\n"
        "handoff._led = lambda cells, last: seen.append((cells, last)) or leading(cells, last)\n"
        "handoff._ring(2)\n"
        "cells, last = seen[0]\n"
        "print(cells[last] == handoff._END, last)"
    )
    done = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True)
    assert done.stdout.split() == ["True", str(handoff._APART)], done.stderr


def test_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert handoff_ns(1) is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert handoff_ns() is None
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert handoff_ns(2) is None


@several
def test_followers_end_when_their_leader_is_killed() -> None:
    endless = (
        "from maxim_deploy.benchmarks import handoff\nhandoff.BLOCKS = 10**9\nhandoff._ring(2)\n"
    )
    with subprocess.Popen([sys.executable, "-c", endless]) as leader:
        process = psutil.Process(leader.pid)
        while not (followers := process.children()):
            time.sleep(0.01)
        leader.kill()
    _, alive = psutil.wait_procs(followers, timeout=10)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_other_comparisons_are_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    assert recall(folder, "Z80 x 2", 80.0) is None
    assert recall(folder, "Z80 x 2", 280.0) == (80, 80)
    assert recall(folder, "6502 x 2", 90.0) is None
    assert recall(folder, "Z80 x 2", 81.0) == (80, 280)
    for _ in range(KEPT):
        recall(folder, "Z80 x 2", 100.0)
    assert recall(folder, "Z80 x 2", 280.0) == (100, 100)


@pytest.mark.parametrize(
    "line", ["", "[]", "3", "{}", '{"machine": "Z80"}', '{"machine": "Z80", "han', "\udcff"]
)
def test_a_damaged_line_is_left_out(tmp_path: Path, line: str) -> None:
    recall(tmp_path, "Z80", 70.0)
    with (tmp_path / "handoff.jsonl").open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{line}\n")
    assert recall(tmp_path, "Z80", 80.0) == (70, 70)
    assert recall(tmp_path, "Z80", 90.0) == (70, 80)


def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert recall(tmp_path / "file", "Z80", 80.0) is None
