"""How long a cache line takes from one processor to the next: where the machine's processors are.

A virtual machine's processors are moved by its host, and those of one cache are much nearer to each
other than those of two: 80 and 280 ns were seen, minutes each, on one idle machine of two
processors. Whatever works on both of them changes with it (a MAXIM in ONNX Runtime from 77 to
103 ms), while one thread alone, a matrix product and the load average notice nothing. So it is
measured between the turns of a run, and times are only compared with those of the same state.

The file is a program as well: it forks a process per processor, and must not do so where a runtime
has threads.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from statistics import median

TURNS = 100
"""Times round, in a block; 16 us or more with two processors."""

BLOCKS = 25
"""Of which the median counts: another program interrupts only a few of them."""

LONGEST_S = 1
"""Where several programs share a processor each pass may wait for a time slice: no result then."""

MOST = 16
"""Processors that are asked at most."""

_APART = 16  # words of 8 bytes: two lines, for processors fetch the neighbour of a line as well
_END = 2**63


def handoff_ns(processors: int | None = None) -> float | None:
    """Nanoseconds per pass, on average over a ring of the first processors that may be used.

    Some 50 ns of it are the interpreter's.

    Args:
        processors: how many; None for all, and never more than `MOST`.

    Returns:
        None with fewer than two, where a program cannot choose its processor, or if others kept
        them too busy.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    count = min(processors or MOST, len(os.sched_getaffinity(0)), MOST)
    if count < 2:
        return None
    # Imported here, for the file as a program imports nothing of ours: with that, and without
    # site, it starts in 20 ms rather than in 200.
    from maxim_deploy.machine.processes import python_process

    command = python_process("-S", __file__, count)
    done = subprocess.run(**command, capture_output=True, check=False)
    return float(done.stdout) if done.returncode == 0 and done.stdout else None


def _ring(count: int) -> float:
    # Shared memory without a lock: each cell has one writer, and a word of 8 bytes is never torn.
    cells = memoryview(mmap.mmap(-1, 8 * _APART * count)).cast("Q")
    processors = sorted(os.sched_getaffinity(0))[:count]
    followers = [_forked(cells, number, processors[number]) for number in range(1, count)]
    os.sched_setaffinity(0, {processors[0]})
    blocks = _led(cells, _APART * (count - 1))
    cells[0] = _END
    for follower in followers:
        os.waitpid(follower, 0)
    return 1e9 * median(blocks) / (TURNS * count)


def _forked(cells: memoryview, number: int, processor: int) -> int:
    if pid := os.fork():
        return pid
    try:
        signal.alarm(LONGEST_S)  # should the leader be killed
        os.sched_setaffinity(0, {processor})
        own, before, turn = _APART * number, _APART * (number - 1), 0
        while turn != _END:
            # Spinning, not waiting: a sleep would be timed in place of the cache line.
            while cells[before] == turn:
                pass
            turn = cells[own] = cells[before]
    finally:
        os._exit(0)


def _led(cells: memoryview, last: int) -> list[float]:
    """Seconds of each block."""
    blocks: list[float] = []
    for block in range(BLOCKS):
        start = time.perf_counter()
        # Numbers never repeat, so no follower takes the turn of the block before for this one.
        for turn in range(block * TURNS + 1, (block + 1) * TURNS + 1):
            cells[0] = turn
            while cells[last] != turn:
                pass
        blocks.append(time.perf_counter() - start)
    return blocks


if __name__ == "__main__":
    signal.alarm(LONGEST_S)
    sys.stdout.write(f"{_ring(int(sys.argv[1])):.1f}")
