"""Files that are brought ahead: how many, in which order, and what ends them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maxim_deploy import CancelledError, StoreError
from maxim_deploy.jobs import downloads
from maxim_deploy.jobs.downloads import AHEAD, Downloads


class Server:
    """Writes files, each once it is let."""

    def __init__(self, folder: Path, count: int, size: int = 1) -> None:
        self.paths = [folder / str(number) for number in range(count)]
        self.begun: list[Path] = []
        self.let = threading.Event()
        self.let.set()
        self.failing: Path | None = None
        self.downloads = Downloads(self.fetch, dict.fromkeys(self.paths, size))

    def fetch(self, path: Path, stop: threading.Event) -> None:
        self.begun.append(path)
        while not self.let.wait(0.01):
            if stop.is_set():
                raise CancelledError("interrupted")
        if path == self.failing:
            raise StoreError("is gone")
        path.write_bytes(b"x")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, 20)
    yield server
    server.downloads.close()


def settle(server: Server, count: int) -> None:
    for _ in range(500):
        if len(server.begun) >= count:
            return
        threading.Event().wait(0.01)


def test_a_few_are_brought_ahead(server: Server) -> None:
    for number in range(3):
        server.downloads.bring(server.paths[number])
        settle(server, number + 1 + AHEAD)
        assert sorted(server.begun) == sorted(server.paths[: number + 1 + AHEAD])
    assert server.paths[2].exists()
    server.downloads.release(server.paths[2])
    assert not server.paths[2].exists()


def test_what_is_released_before_is_not_brought(server: Server) -> None:
    for path in server.paths[:10]:
        server.downloads.release(path)
    server.downloads.bring(server.paths[10])
    settle(server, 1 + AHEAD)
    assert set(server.begun) == set(server.paths[10 : 11 + AHEAD])


def test_large_files_are_brought_one_by_one(tmp_path: Path) -> None:
    server = Server(tmp_path, 5, downloads.AHEAD_BYTES + 1)
    for path in server.paths[:2]:
        server.downloads.bring(path)
    server.downloads.close()
    assert server.begun == server.paths[:2]


def test_an_error_is_that_of_each_who_asks(server: Server) -> None:
    server.failing = server.paths[0]
    for _ in range(2):
        with pytest.raises(StoreError, match="is gone"):
            server.downloads.bring(server.paths[0])
    server.downloads.bring(server.paths[1])


def test_who_waits_is_told_of_the_end(server: Server) -> None:
    server.let.clear()
    timer = threading.Timer(0.1, server.downloads.stop)
    timer.start()
    for path in server.paths[:2]:  # under way, and not begun
        with pytest.raises(CancelledError):
            server.downloads.bring(path)
    timer.join()


def test_a_file_that_nobody_brings_is_there(server: Server, tmp_path: Path) -> None:
    server.downloads.bring(tmp_path / "mine.png")
    assert server.begun == []
