"""Folders that are replaced in one step, whatever the system can, and read as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from inverter import files

import maxim_deploy
from maxim_deploy import _exchange, _folders, _locks
from maxim_deploy._folders import atomic_directory, read_whole, settled, tidy, unreplaced


def fill(path: Path, content: str, *, replace: bool = True) -> None:
    with atomic_directory(path, replace=replace) as partial:
        (partial / "a.txt").write_text(content)


def content(path: Path) -> str:
    return (path / "a.txt").read_text()


def refuse(first: Path, second: Path) -> None:
    raise OSError("not on this system")


@pytest.fixture(params=["exchange", "two renames"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two renames":
        monkeypatch.setattr(_folders, "exchange", refuse)


def test_the_new_one_takes_the_place_of_the_old(folder: Path, either_way: None):
    for text in ("old", "new"):
        fill(Path("up/b"), text)
        assert content(Path("up/b")) == text
        assert files("up") == ["b"]


def test_the_unfinished_one_may_be_elsewhere(folder: Path, either_way: None):
    for text in ("old", "new"):
        with atomic_directory(Path("up/b"), beside=Path("up")) as partial:
            (partial / "a.txt").write_text(text)
            # Whatever is in `up` counts there: nothing else may be, not for a moment.
            assert files("up") == (["b"] if text == "new" else [])
        assert content(Path("up/b")) == text and files(".") == ["up"]


def test_two_names_are_exchanged(folder: Path):
    Path("a").write_text("a")
    Path("b").mkdir()
    try:
        _exchange.exchange(Path("a"), Path("b"))
    except OSError:
        pytest.skip("this system or file system exchanges no names")
    assert Path("a").is_dir() and Path("b").read_text() == "a"
    with pytest.raises(FileNotFoundError):
        _exchange.exchange(Path("a"), Path("c"))


@pytest.mark.parametrize("platform", ["win32", "linux", "darwin"])
def test_a_system_without_the_call(folder: Path, platform: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(_exchange.ctypes, "CDLL", lambda *_, **__: None)
    fill(Path("b"), "old")
    fill(Path("b"), "new")
    assert content(Path("b")) == "new" and files(".") == ["b"]


def test_what_is_there_by_now_stays_if_asked(folder: Path):
    Path("empty").mkdir()
    fill(Path("empty"), "new", replace=False)
    with pytest.raises(FileExistsError), atomic_directory(Path("b"), replace=False):
        fill(Path("b"), "of another process")
    assert (content(Path("empty")), content(Path("b"))) == ("new", "of another process")
    assert files(".") == ["b", "empty"]


def test_a_rename_that_fails_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_folders, "exchange", refuse)
    fill(Path("b"), "old")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise OSError("disk on fire")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="disk on fire"):
        fill(Path("b"), "new")
    assert content(Path("b")) == "old" and files(".") == ["b"]


KILLED = """
import os, signal, sys
from pathlib import Path
from maxim_deploy import _folders
def refuse(first, second): raise OSError
_folders.exchange = refuse
rename, left = Path.rename, [int(sys.argv[2])]
def count_down(old, new):
    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return rename(old, new)
Path.rename = count_down
with _folders.atomic_directory(Path(sys.argv[1])) as partial:
    (partial / "a.txt").write_text("new")
"""


@pytest.mark.parametrize(("renames", "there"), [(0, "old"), (1, "old"), (2, "new")])
@pytest.mark.parametrize("next_one", ["reads", "writes", "tidies"])
def test_killed_between_two_renames(folder: Path, renames: int, there: str, next_one: str):
    fill(Path("b"), "old")
    env = {**os.environ, "PYTHONPATH": str(Path(maxim_deploy.__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, "b", str(renames)]
    assert subprocess.run(command, check=False, env=env).returncode == -signal.SIGKILL
    assert Path("b").exists() == (renames != 1)
    if next_one == "reads":
        assert content(settled(Path("b"))) == there
        assert content(Path("b")) == there  # it was put back
        return
    if next_one == "writes":
        fill(Path("b"), there := "newest")
    tidy(Path("b"))
    assert content(Path("b")) == there and files(".") == ["b"]


def test_what_is_put_aside_is_read_where_it_lies_if_it_cannot_be_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    fill(Path(".b.previous"), "old")
    with unreplaced(Path("b")):  # as while another process replaces it
        assert content(settled(Path("b"))) == "old"
    assert files(".") == [".b.previous"]

    def deny(path: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "rename", deny)
    assert content(settled(Path("b"))) == "old"
    assert settled(Path("c")) == Path("c")


def test_a_replacement_is_read_again_once_and_undisturbed(folder: Path, either_way: None):
    fill(Path("b"), "1")
    read, closed = [], []

    def read_replaced() -> str:
        read.append(content(Path("b")))
        replacer = threading.Thread(target=fill, args=(Path("b"), f"{len(read) + 1}"))
        replacer.start()
        replacer.join(None if len(read) == 1 else 0.05)  # the second one waits for the lock
        later.append(replacer)
        return read[-1] + content(Path("b"))

    later: list[threading.Thread] = []
    assert read_whole(Path("b"), read_replaced, closed.append) == "22"
    assert (read, closed) == (["1", "2"], ["12"])
    later[-1].join()
    assert content(Path("b")) == "3"


def test_a_failure_is_tried_again_only_after_a_replacement(folder: Path):
    fill(Path("b"), "1")
    tried = []

    def fail() -> None:
        tried.append(1)
        raise KeyError

    def replace_and_fail() -> None:
        if not tried:
            fill(Path("b"), "2")
        fail()

    for read, times in ((replace_and_fail, 2), (fail, 1)):
        tried.clear()
        with pytest.raises(KeyError):
            read_whole(Path("b"), read)
        assert len(tried) == times


def test_a_lock_that_somebody_keeps_stops_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As `flock FOLDER maxim-export ...` does."""
    monkeypatch.setattr(_locks, "PATIENCE", 0.02)
    with _locks.locked(folder):
        fill(Path("b"), "old")
        fill(Path("b"), "new")
        with unreplaced(Path("b")):
            assert content(Path("b")) == "new"


def test_a_system_that_locks_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Windows, and network file systems: replaced and read as well, with nothing to wait for."""
    monkeypatch.setattr("maxim_deploy._locks.fcntl", None)
    fill(Path("b"), "old")
    fill(Path("b"), "new")
    with unreplaced(Path("b")):
        assert read_whole(Path("b"), lambda: content(Path("b"))) == "new"
    assert files(".") == ["b"]
