"""Measures the time of a cache line from one processor to the next, which shows their placement.

A host may move the processors of a virtual machine. Processors that share a cache are much nearer
to each other than processors with separate caches. One idle machine of two processors alternated
between 80 and 280 ns, minutes each. Work on both processors changes with that state: a MAXIM in
ONNX Runtime took 77 or 103 ms. A single thread, a matrix product and the load average stay the
same. So the time is measured between the turns of a run, and times are compared only within one
state.

This file is also a program. It forks a process per processor, which is unsafe in a process whose
runtime has threads.
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
"""Passes around the ring in a block; 16 us or more with two processors."""

BLOCKS = 25
"""Blocks, whose median counts: another program interrupts only a few of them."""

LONGEST_S = 1
"""Seconds until the measurement gives up. If several programs share a processor, each pass may wait
for a time slice."""

MOST = 16
"""Most processors in the ring."""

_APART = 16  # words of 8 bytes: two lines, because processors also fetch a line's neighbour
_END = 2**63


def handoff_ns(processors: int | None = None) -> float | None:
    """Average nanoseconds per pass in a ring of the first usable processors.

    About 50 ns of it are spent in the interpreter.

    Args:
        processors: number of processors; None for all, and never more than `MOST`.

    Returns:
        The nanoseconds; None with fewer than two processors, if a program cannot choose its
        processor here, or if other programs kept the processors too busy.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    count = min(processors or MOST, len(os.sched_getaffinity(0)), MOST)
    if count < 2:
        return None
    # Imported here, because the file as a program must not import the package: without package and
    # site it starts in 20 ms instead of 200.
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
        signal.alarm(LONGEST_S)  # ends this process even if the leader is killed
        os.sched_setaffinity(0, {processor})
        own, before, turn = _APART * number, _APART * (number - 1), 0
        while turn != _END:
            # Spin instead of sleeping: a sleep would be timed in place of the cache line.
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
        # Numbers never repeat, so no follower mistakes a turn of the previous block for this one.
        for turn in range(block * TURNS + 1, (block + 1) * TURNS + 1):
            cells[0] = turn
            while cells[last] != turn:
                pass
        blocks.append(time.perf_counter() - start)
    return blocks


if __name__ == "__main__":
    signal.alarm(LONGEST_S)
    sys.stdout.write(f"{_ring(int(sys.argv[1])):.1f}")
