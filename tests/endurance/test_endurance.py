"""What the scripts beside this promise, in little; at length where it is asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from endurance.traced import Disk
from endurance.work import WORK, emptied, export, wrong_graph

from maxim_deploy import _folders, load
from maxim_deploy.errors import BundleError
from maxim_deploy.runtime import loading
from maxim_deploy.spec.bundle import Bundle

ROOT = Path(__file__).parents[2]
LIGHT = [kind for kind in WORK if kind != "engine"]


class Flushed:
    """Records what is flushed, and at each rename to a final name what of it is not.

    Whoever has written a file, it has the time of its last change.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.times: dict[tuple[int, int], int] = {}
        self.renames, self.faults = 0, list[str]()
        self.unflushed_folders = set[Path]()
        self._fsync = os.fsync
        patch.setattr(os, "fsync", self.fsync)
        for module, name in ((os, "rename"), (os, "replace"), (_folders, "exchange")):
            patch.setattr(module, name, self._checked(getattr(module, name)))

    def fsync(self, number: int) -> None:
        self._fsync(number)
        found = os.fstat(number)
        self.times[found.st_dev, found.st_ino] = found.st_mtime_ns
        self.unflushed_folders = {x for x in self.unflushed_folders if not self._is(x)}

    def _checked(self, rename: Any) -> Any:
        def renamed(old: Path, new: Path) -> None:
            if ".partial" not in str(Path(new).parent):
                self.renames += 1
                everything = [Path(old), *Path(old).rglob("*")]
                self.faults += [str(x) for x in everything if not self._is(x)]
                self.unflushed_folders.add(Path(new).parent)
            rename(old, new)

        return renamed

    def _is(self, path: Path) -> bool:
        found = path.stat()
        return self.times.get((found.st_dev, found.st_ino)) == found.st_mtime_ns


@pytest.mark.skipif(os.name == "nt", reason="Windows flushes no folders")
@pytest.mark.parametrize("kind", LIGHT)
def test_all_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = WORK[kind]
    work.prepare(emptied(tmp_path / "work"))
    flushed = Flushed(monkeypatch)
    work.run(tmp_path / "work")
    monkeypatch.undo()
    assert flushed.faults == [] and flushed.unflushed_folders == set()
    assert flushed.renames > 0
    assert work.wrong(tmp_path / "work") == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_bundle_replaced_while_it_is_loaded(
    tmp_path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its hashes were compared and before the backend reads it, or in the middle of that."""
    bundle, loads = tmp_path / "bundle", []
    export(bundle, "half")
    open_backend = loading.open_backend

    def open_replaced(*arguments: Any) -> Any:
        loads.append(1)
        if len(loads) == 1:
            export(bundle, "quarter")
            if fails:
                raise BundleError("a file is missing")
        return open_backend(*arguments)

    monkeypatch.setattr(loading, "open_backend", open_replaced)
    assert wrong_graph(bundle) is None
    assert len(loads) == 2
    with load(bundle, backend="onnxruntime", threads=1) as restorer:
        assert restorer.info.model.name == "quarter"


def test_a_bundle_of_equal_content_is_another_folder(tmp_path: Path) -> None:
    """Its files may be gone under the reader, though nothing in them has changed."""
    bundle, read = tmp_path / "bundle", []
    export(bundle, "half")

    def read_replaced() -> str:
        read.append(Bundle.open(bundle).manifest.model.name)
        if len(read) == 1:
            export(bundle, "half")
            raise BundleError("a file is missing")
        return read[-1]

    assert _folders.read_whole(bundle, read_replaced) == "half"


def test_a_trace_that_lacks_something_is_seen() -> None:
    disk = Disk("/w")
    for call in (
        'openat(AT_FDCWD</>, "/w/.a.partial", O_WRONLY|O_CREAT, 0666) = 3</w/.a.partial>',
        'write(3</w/.a.partial>, "x", 1) = 1',
        "fsync(3</w/.a.partial>) = 0",
        'rename("/w/.a.partial", "/w/a") = 0',
        'mkdir("/w/.b.partial", 0777) = 0',
        'openat(4</w/.b.partial>, "c", O_RDWR|O_CREAT, 0666) = 3</w/.b.partial/c>',
        "fsync(4</w/.b.partial>) = 0",
        'renameat2(AT_FDCWD</>, "/w/.b.partial", AT_FDCWD</>, "/w/b", RENAME_EXCHANGE) = 0',
        'rename("/w/x", "/w/y") = -1 ENOENT (No such file or directory)',
    ):
        disk.take(call)
    assert disk.renames == 2 and disk.faults == ["/w/b: not on the disk: /w/.b.partial/c"]
    assert disk.named == {"/w"}
    disk.take("fsync(3</w>) = 0")
    assert disk.named == set()


def script(name: str, *arguments: str) -> list[dict[str, Any]]:
    """What a script prints, line by line; it must find no fault."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    command = [sys.executable, "-m", f"endurance.{name}", *arguments]
    environment = {**os.environ, "PYTHONPATH": paths}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    return [json.loads(line) for line in ended.stdout.splitlines()]


KINDS = [argument for kind in LIGHT for argument in ("--kind", kind)]


def test_a_few_kills_of_shards() -> None:
    (counts,) = script("shards", "--seed", "1", "--kills", "4", "--pictures", "60")
    assert counts["kills"] >= 4


@pytest.mark.extended
def test_kills_of_shards() -> None:
    (counts,) = script("shards", "--seed", "1", "--kills", "50")
    assert counts["kills"] >= 50 and counts["lost"] == 0


@pytest.mark.extended
def test_kills() -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    script("kills", "--seed", "1", "--range", "0:300")


@pytest.mark.extended
@pytest.mark.parametrize("way", [[], ["--without-exchange"]])
@pytest.mark.parametrize("killed", ["0", "0.5"])
def test_replacements(way: list[str], killed: str) -> None:
    (counts,) = script("replacements", "--seed", "1", "--range", "0:1000", "--killed", killed, *way)
    assert counts["replacements"] > 400 and counts["reads"] > 1000


@pytest.mark.extended
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_trace_of_the_system() -> None:
    assert all(line["renames"] for line in script("traced", *KINDS))
