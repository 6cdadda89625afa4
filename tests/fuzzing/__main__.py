"""Many mutated files, from a command line; a line of JSON for each reader, and their sum.

    PYTHONPATH=tests python -m fuzzing --count 10000 --seed 1 --reader manifest --reader npz

A number that a finding names is a file: `--first NUMBER --count 1` reads it again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.readers import READERS
from fuzzing.runs import run


def main() -> int:
    """The number of findings is the exit code, as far as there is room."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each reader")
    parser.add_argument("--reader", action="append", choices=[*READERS])
    options = parser.parse_args()
    files = findings = 0
    for name in options.reader or READERS:
        start, done = time.perf_counter(), options.first
        counts: dict[str, int] = {}
        found: dict[str, list[int]] = {}
        slowest, most = 0.0, 0
        last = options.first + options.count
        while done < last and time.perf_counter() - start < options.seconds:
            numbers = range(done, min(done + 500, last))
            with tempfile.TemporaryDirectory() as folder:
                tally = run(READERS[name], Path(folder), numbers, options.seed)
            for key, count in tally.counts.items():
                counts[key] = counts.get(key, 0) + count
            for what, which in tally.findings.items():
                found.setdefault(what, []).extend(which)
            slowest, most = max(slowest, tally.slowest_s), max(most, tally.most_bytes)
            done = numbers.stop
        line = {
            "reader": name, "files": done - options.first, **counts, "slowest_s": round(slowest, 2),
            "most_MB": round(most / 1e6), "seconds": round(time.perf_counter() - start, 1),
            "findings": {what: [len(which), which[0]] for what, which in found.items()},
        }  # fmt: skip
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()
        files, findings = files + done - options.first, findings + len(found)
    sys.stdout.write(f"{json.dumps({'files': files, 'findings': findings})}\n")
    return min(findings, 100)


if __name__ == "__main__":
    sys.exit(main())
