"""Work is killed at any moment, and then done again.

    PYTHONPATH=tests python -m endurance.kills --seed 1 --range 0:300 [--kind export]...

prints a line of JSON with counts. Ranges may run apart: `--add FILE...` adds lines up. In each
attempt a child process does the work and is killed: either at one of Python's audit events (before
a file is opened, renamed, removed), or at any time. What lies there is looked at, the next child
does the work again to its end, and what then lies there is looked at again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from endurance.work import WORK, Work, emptied

EVENTS = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "ctypes.")
FAULTS = ("torn", "next_run_failed", "wrong_after_next_run")


def kill(kind: str, folder: Path, draw: random.Random, counts: Counter[str]) -> None:
    """Kill one piece of work, and count what is wrong then."""
    work = WORK[kind]
    events, seconds = _length(kind, folder)
    status = 0
    while status >= 0:  # it may end before it is killed
        _prepare(work, folder)
        at_event = draw.random() < 0.5
        at = killed_at_event(draw.randrange(events)) if at_event else None
        status = child(lambda: work.run(folder), at or killed_after(draw.uniform(0, seconds)))
        assert status <= 0, (kind, status)
    counts[f"{kind}_killed"] += 1
    _count("torn", work.torn(folder), kind, counts)
    failed = child(lambda: work.run(folder))
    _count("next_run_failed", [f"status {failed}"] * bool(failed), kind, counts)
    _count("wrong_after_next_run", _wrong(work, folder), kind, counts)


def _wrong(work: Work, folder: Path) -> list[str]:
    try:
        return work.wrong(folder)
    except Exception as error:
        return [repr(error)]


def _count(fault: str, problems: list[str], kind: str, counts: Counter[str]) -> None:
    if problems:
        counts[fault] += 1
        print(f"{kind}: {fault}: {problems}", file=sys.stderr)


_lengths: dict[str, tuple[int, float]] = {}


def _length(kind: str, folder: Path) -> tuple[int, float]:
    """(events, seconds) that a piece of work takes if nothing happens."""
    if kind not in _lengths:
        counter = folder.with_suffix(".events")

        def counted() -> None:
            seen = [0]
            _on_event(lambda: seen.__setitem__(0, seen[0] + 1))
            WORK[kind].run(folder)
            counter.write_text(str(seen[0]))

        _prepare(WORK[kind], folder)
        started = time.perf_counter()
        status = child(counted)
        assert status == 0, (kind, status)
        _lengths[kind] = int(counter.read_text()), time.perf_counter() - started
    return _lengths[kind]


def _prepare(work: Work, folder: Path) -> None:
    # In a child: libav and ONNX Runtime do not survive a fork of who has used them.
    status = child(lambda: work.prepare(emptied(folder)))
    assert status == 0, (work, status)


def child(do: Callable[[], None], killer: Callable[[], None] = lambda: None) -> int:
    """Do it in a fork, which has imported everything; its exit status, or minus the signal."""
    process = os.fork()
    if process == 0:
        try:
            killer()
            do()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_at_event(number: int) -> Callable[[], None]:
    left = [number]

    def count_down() -> None:
        left[0] -= 1
        if left[0] == -1:  # only now: to kill is an event too
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda: _on_event(count_down)


def _on_event(call: Callable[[], None]) -> None:
    sys.addaudithook(lambda name, _: call() if name.startswith(EVENTS) else None)


def killed_after(seconds: float) -> Callable[[], None]:
    # The system's timer, whose signal ends the process also while a library holds Python up.
    return lambda: signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6)) and None


def main() -> int:
    """Attempts `start` to `stop` of a seed; the same ones whatever the ranges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--range", default="0:10")
    parser.add_argument("--kind", action="append", choices=WORK)
    parser.add_argument("--add", nargs="+", type=Path)
    options = parser.parse_args()
    counts: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
    if options.add:
        for line in (line for file in options.add for line in file.read_text().splitlines()):
            counts.update(json.loads(line))
    else:
        counts.update(attempts(options.seed, options.range, options.kind or [*WORK]))
    print(json.dumps(counts))
    return int(any(counts[fault] for fault in FAULTS))


def attempts(seed: int, numbers: str, kinds: list[str]) -> Counter[str]:
    """Counts of a range of attempts, "start:stop"; the kinds take turns."""
    counts: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(*map(int, numbers.split(":"))):
            draw = random.Random(f"{seed} {number}")
            kind = kinds[number % len(kinds)]
            kill(kind, Path(folder, kind), draw, counts)
    return counts


if __name__ == "__main__":
    sys.exit(main())
