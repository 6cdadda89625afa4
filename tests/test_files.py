"""Files that are whole or absent, links, and what processes that have died leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from inverter import files

import maxim_deploy
from maxim_deploy._files import Partial, atomic_file, remove_abandoned, write_text
from maxim_deploy._folders import atomic_directory
from maxim_deploy._locks import Lock

DEAD = ".a.png.0123456789ab.partial"
HOLDING = """
import sys
from pathlib import Path
from maxim_deploy._files import Partial
Partial(Path(sys.argv[1]), is_directory=sys.argv[2] == "folder")
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_living_process_writes_stays_until_it_is_dead(folder: Path, kind: str):
    env = {**os.environ, "PYTHONPATH": str(Path(maxim_deploy.__file__).parents[1])}
    command = [sys.executable, "-c", HOLDING, "out/a.png", kind]
    Path("out").mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=env, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
        remove_abandoned(Path("out"))
        (name,) = files("out")
        assert name.startswith(".a.png.") and name.endswith(".partial")
        process.send_signal(signal.SIGKILL)
        process.wait()
    remove_abandoned(Path("out"))
    assert files("out") == []


def test_other_hidden_files_stay(folder: Path):
    names = [".mine.partial", "a.0123456789ab.partial", ".a.0123456789AB.partial"]
    for name in [*names, DEAD]:
        Path(name).touch()
    remove_abandoned(folder)
    assert files(".") == sorted(names)
    remove_abandoned(folder / "nowhere")


def test_the_first_write_into_a_folder_removes_what_is_dead(folder: Path):
    Path(DEAD).mkdir()
    Path(DEAD, "graph.onnx").touch()
    write_text(Path("table.json"), "{}")
    assert files(".") == ["table.json"]


def test_a_new_file_is_never_taken_for_abandoned(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Another process looks through the folder between making the file and locking it."""
    touch = Path.touch

    def touch_and_lose(path: Path, **options: object) -> None:
        touch(path)
        monkeypatch.setattr(Path, "touch", touch)
        remove_abandoned(folder)

    monkeypatch.setattr(Path, "touch", touch_and_lose)
    partial = Partial(Path("a.png"))
    assert files(".") == [partial.path.name]
    partial.publish()
    assert files(".") == ["a.png"]


def test_a_link_stays_and_what_it_points_at_is_written(folder: Path):
    Path("real").mkdir()
    Path("a.txt").symlink_to("real/b.txt")
    Path("loop.txt").symlink_to("loop.txt")
    for name in ("a.txt", "loop.txt"):
        write_text(Path(name), "content")
        assert Path(name).read_text() == "content"
    assert Path("a.txt").is_symlink()
    assert files("real") == ["b.txt"]


def test_what_is_published_or_discarded_leaves_no_lock_open(folder: Path):
    open_files = Path("/proc/self/fd")
    before = len(files(str(open_files))) if open_files.exists() else None
    with atomic_file(Path("a.txt")), atomic_directory(Path("b")):
        pass
    with pytest.raises(KeyError), atomic_file(Path("c.txt")), atomic_directory(Path("d")):
        raise KeyError
    assert files(".") == ["a.txt", "b"]
    if before is not None:
        assert len(files(str(open_files))) == before


def test_a_link_that_is_not_followed_is_replaced(tmp_path: Path) -> None:
    (victim := tmp_path / "victim").write_text("mine")
    victim.chmod(0o600)
    (link := tmp_path / "link").symlink_to(victim)
    write_text(link, "ours", follow=False)
    assert victim.read_text() == "mine" and link.read_text() == "ours"
    assert not link.is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_or_a_link_with_a_hidden_name_holds_nobody_up(tmp_path: Path) -> None:
    """To open the pipe would wait for its writer; the link's target is not ours to lock."""
    os.mkfifo(tmp_path / ".a.png.0123456789ab.partial")
    (target := tmp_path / "target").touch()
    (link := tmp_path / ".b.png.0123456789ab.partial").symlink_to(target)
    lock = Lock(link)
    assert lock.state == "unknown"
    lock.release()
    remove_abandoned(tmp_path)
    assert target.exists() and not (tmp_path / ".a.png.0123456789ab.partial").exists()
