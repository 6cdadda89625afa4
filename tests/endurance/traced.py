"""A trace of the system's calls: everything is on the disk before it has its name.

    PYTHONPATH=tests python -m endurance.traced [--kind export]...

needs strace. Every file that is opened for writing and every folder in which a name changes has to
be synchronised before it, or a folder that it is in, is renamed to its final name; whoever writes
it: Python, ONNX IR, libav, TensorRT. The folder of the final name is synchronised afterwards. Files
that are opened without a rename after it, such as logs and records, have no such moment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from endurance.work import WORK, emptied

_OPEN = re.compile(r"\d+<(/[^>]*)>")
_NAMED = re.compile(r'(?:\w+<(/[^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_RENAMES = ("rename", "renameat", "renameat2")
_REMOVALS = ("unlink", "unlinkat", "rmdir")
_SYNCS = ("fsync", "fdatasync")
_CHANGES = ("write", "pwrite64", "writev", "ftruncate")
_BY_NAME = ("openat", "mkdir", *_REMOVALS, *_RENAMES)
_WRITES = ("O_WRONLY", "O_RDWR", "O_CREAT")


@dataclass
class Disk:
    """What a trace says of a folder: which paths are not synchronised, and what was missed.

    Attributes:
        below: paths elsewhere do not count.
        dirty: files and folders with content or names that may not be on the disk.
        named: folders with a final name that may not be on the disk.
        renames: number of renames.
        faults: what had a name before it was on the disk.
    """

    below: str
    dirty: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    renames: int = 0
    synchronised: int = 0
    faults: list[str] = field(default_factory=list)

    def take(self, line: str) -> None:
        """One line of the trace, a call that has returned."""
        call, _, rest = line.partition("(")
        if rest.rpartition(" = ")[2].startswith("-1"):
            return
        call = call.split()[-1]
        by_name = [str(Path(folder, name)) for folder, name in _NAMED.findall(rest)]
        found = by_name if call in _BY_NAME else _OPEN.findall(rest)
        paths = [path for path in found if _is_in(path, self.below)]
        if not paths:
            return
        if call in _SYNCS:
            self.synchronised += 1
            self.dirty.discard(paths[0])
            self.named.discard(paths[0])
        elif call in _RENAMES:
            self._rename(*paths[:2])
        elif call in _REMOVALS:
            self.dirty -= {path for path in self.dirty if _is_in(path, paths[0])}
        elif call == "mkdir":
            self.dirty |= {paths[0], _above(paths[0])}
        elif call == "openat" and any(flag in rest for flag in _WRITES):
            self.dirty.add(paths[0])
            if "O_CREAT" in rest:
                self.dirty.add(_above(paths[0]))
        elif call in _CHANGES:
            self.dirty.add(paths[0])

    def _rename(self, old: str, new: str) -> None:
        folders = {_above(old), _above(new)}
        unsynchronised = sorted(path for path in self.dirty if _is_in(path, old))
        if ".partial/" in new:  # within what is not finished, as ONNX IR renames its weights
            self.dirty |= {new + path.removeprefix(old) for path in unsynchronised} | folders
            return
        self.renames += 1
        if unsynchronised:
            self.faults.append(f"{new}: not on the disk: {', '.join(unsynchronised)}")
        self.dirty -= {path for path in self.dirty if _is_in(path, old) or _is_in(path, new)}
        self.named.add(_above(new))


def _above(path: str) -> str:
    return str(Path(path).parent)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def traced(kind: str, folder: Path) -> Disk:
    """What the system's calls of one piece of work say, which another process does."""
    log = folder.with_suffix(".strace")
    calls = ",".join((*_BY_NAME, *_SYNCS, *_CHANGES))
    strace = ["strace", "-fqqy", "-s", "4096", "-e", f"trace={calls}", "-o", str(log)]
    WORK[kind].prepare(emptied(folder))
    worker = [sys.executable, "-m", __spec__.name, "--work", kind, str(folder)]
    subprocess.run([*strace, *worker], check=True)
    disk = Disk(os.path.realpath(folder))
    for line in _whole_calls(log.read_text(errors="replace")):
        disk.take(line)
    disk.faults += [f"{path}: its names are not on the disk" for path in sorted(disk.named)]
    return disk


def _whole_calls(text: str) -> list[str]:
    """The lines of calls, in the order of their ends; strace cuts those that overlap in two."""
    begun: dict[str, str] = {}
    lines = []
    for line in text.splitlines():
        process, _, call = line.partition(" ")
        if call.endswith(" <unfinished ...>"):
            begun[process] = call.removesuffix(" <unfinished ...>")
            continue
        if resumed := re.match(r"\s*<\.\.\. \w+ resumed>", call):
            call = begun.pop(process, "") + call[resumed.end() :]
        lines.append(call.strip())
    return lines


def main() -> int:
    """Print a line of JSON for each kind of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", action="append", choices=WORK)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        WORK[options.work[0]].run(Path(options.work[1]))
        return 0
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kind or WORK:
            disk = traced(kind, Path(folder, kind))
            facts = {"renames": disk.renames, "synchronised": disk.synchronised}
            print(json.dumps({"kind": kind, **facts, "faults": disk.faults}))
            failed += bool(disk.faults) or not disk.renames
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
