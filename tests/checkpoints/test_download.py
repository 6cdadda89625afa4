"""The downloader against a server on this machine: whole, in parts, changed, and not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from maxim_deploy.checkpoints import download, transfer
from maxim_deploy.checkpoints.download import downloaded
from maxim_deploy.errors import CheckpointError, DownloadError, UsageError
from maxim_deploy.spec import models
from maxim_deploy.spec.decoding import SHA256
from maxim_deploy.spec.models import PublishedModel


@dataclass(frozen=True)
class LocalModel(PublishedModel):
    address: str = ""

    @property
    def url(self) -> str:
        return self.address


def model_at(address: str) -> LocalModel:
    return LocalModel("local-model", "denoising", "none", "S-1", "None", 0.0, 0.0, address)


class Server(ThreadingHTTPServer):
    """Serves one file at every path; the attributes say how well."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag = '"one"'
        self.knows_ranges = True
        self.knows_conditions = True
        self.knows_length = True
        self.range_shift = 0  # bytes by which the range sent is beside the one asked for
        self.cut_after: int | None = None  # bytes of the body, then the connection closes
        self.status: int | None = None
        self.location: str | None = None
        self.silent = threading.Event()  # set: no answer
        self.stated: dict[str, str] = {}
        self.requests: list[dict[str, str]] = []

    @property
    def model(self) -> LocalModel:
        return model_at(f"http://127.0.0.1:{self.server_port}/checkpoint.npz")


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if server.silent.is_set():
            server.silent.clear()
            threading.Event().wait(0.6)
            return
        if server.status:
            self.send_response(server.status)
            if server.location:
                self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self.start_of_range()
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            end = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        if server.knows_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        for name, value in server.stated.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: server.cut_after])

    def start_of_range(self) -> int:
        wanted = self.headers.get("Range")
        if not wanted or not self.server.knows_ranges:
            return 0
        if self.server.knows_conditions and self.headers.get("If-Range") != self.server.etag:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-")) + self.server.range_shift

    def log_message(self, *args):
        pass


def npz_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, a=array)
    return file.getvalue()


@pytest.fixture(scope="module")
def content() -> bytes:
    return npz_of(np.random.default_rng(0).standard_normal(100_000))


@pytest.fixture
def server(content, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cut(server, tmp_path):
    """A server that has sent the first 300,000 bytes once, and is well again."""
    server.cut_after = 300_000
    failure(server.model, tmp_path)
    server.cut_after = None
    server.requests.clear()
    return server


def failure(model: PublishedModel, folder: Path) -> str:
    with pytest.raises(DownloadError) as caught:
        download(model, folder=folder)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "local-model").iterdir())


def test_first_download_and_later_use(server, content, tmp_path, caplog):
    seen = []
    with caplog.at_level(logging.INFO, "maxim_deploy"):
        path = download(server.model, folder=tmp_path, progress=lambda *args: seen.append(args))
    assert path == tmp_path / "local-model" / "checkpoint.npz"
    assert path.read_bytes() == content
    assert names(tmp_path) == ["checkpoint.npz", "checkpoint.npz.sha256"]

    digest = hashlib.sha256(content).hexdigest()
    assert path.with_name("checkpoint.npz.sha256").read_text() == f"{digest}  checkpoint.npz\n"
    assert digest in caplog.text
    assert seen[0] == (0, len(content))
    assert seen[-1] == (len(content), len(content))
    assert len(seen) > 3

    assert download(server.model, folder=tmp_path) == path
    assert len(server.requests) == 1


def test_cut_connection_is_reported_and_resumed(server, content, tmp_path):
    server.cut_after = 300_000
    assert f"closed after 300,000 of {len(content):,} bytes" in failure(server.model, tmp_path)
    assert names(tmp_path) == ["checkpoint.npz.partial", "checkpoint.npz.partial.etag"]

    server.cut_after = None
    seen = []
    path = download(server.model, folder=tmp_path, progress=lambda *args: seen.append(args))
    assert path.read_bytes() == content
    assert names(tmp_path) == ["checkpoint.npz", "checkpoint.npz.sha256"]
    assert seen[0] == (300_000, len(content))
    assert server.requests[-1]["Range"] == "bytes=300000-"
    assert server.requests[-1]["If-Range"] == '"one"'


def test_changed_file_starts_over(cut, tmp_path):
    cut.etag, cut.content = '"two"', npz_of(np.arange(10_000.0))
    assert download(cut.model, folder=tmp_path).read_bytes() == cut.content
    assert len(cut.requests) == 1


def test_changed_file_starts_over_where_the_server_ignores_conditions(cut, tmp_path):
    cut.etag, cut.content = '"two"', npz_of(np.arange(90_000.0))
    cut.knows_conditions = False
    assert download(cut.model, folder=tmp_path).read_bytes() == cut.content
    assert len(cut.requests) == 2


def test_wrong_range_starts_over(cut, content, tmp_path):
    cut.range_shift = 7
    assert download(cut.model, folder=tmp_path).read_bytes() == content
    assert len(cut.requests) == 2


def test_server_without_ranges_starts_over(cut, content, tmp_path):
    cut.knows_ranges = False
    assert download(cut.model, folder=tmp_path).read_bytes() == content
    assert len(cut.requests) == 1


def test_nothing_after_the_partial_starts_over(cut, content, tmp_path):
    partial = tmp_path / "local-model" / "checkpoint.npz.partial"
    partial.write_bytes(bytes(len(content)))
    assert download(cut.model, folder=tmp_path).read_bytes() == content
    assert ["Range" in request for request in cut.requests] == [True, False]


def test_weak_tag_is_not_resumed(server, content, tmp_path):
    server.etag, server.cut_after = 'W/"one"', 300_000
    failure(server.model, tmp_path)
    server.cut_after = None
    assert download(server.model, folder=tmp_path).read_bytes() == content
    assert "Range" not in server.requests[-1]


def test_server_that_tells_no_length(server, content, tmp_path):
    server.knows_length = False
    seen = []
    path = download(server.model, folder=tmp_path, progress=lambda *args: seen.append(args))
    assert path.read_bytes() == content
    assert seen[-1] == (len(content), None)


def test_something_else_than_the_file(server, tmp_path):
    server.content = b"<html>please log in</html>"
    assert "the 26 bytes that came are not an .npz file" in failure(server.model, tmp_path)
    assert names(tmp_path) == []


def test_file_that_changed_on_disk(server, content, tmp_path):
    path = download(server.model, folder=tmp_path)
    path.write_bytes(content[:-1] + b"x")
    text = failure(server.model, tmp_path)
    for word in (
        hashlib.sha256(content).hexdigest(),
        hashlib.sha256(path.read_bytes()).hexdigest(),
    ):
        assert word in text
    assert "Delete both 'checkpoint.npz' and 'checkpoint.npz.sha256'" in text
    assert len(server.requests) == 1


def test_file_put_there_by_hand(server, content, tmp_path):
    path = tmp_path / "local-model" / "checkpoint.npz"
    path.parent.mkdir()
    path.write_bytes(content)
    assert download(server.model, folder=tmp_path) == path
    assert (
        hashlib.sha256(content).hexdigest()
        in (tmp_path / "local-model" / "checkpoint.npz.sha256").read_text()
    )
    assert server.requests == []
    path.write_bytes(content + b"x")
    assert "has changed" in failure(server.model, tmp_path)


def assert_says_what_to_do(text: str, model: PublishedModel, folder: Path) -> None:
    assert model.url in text
    assert str(folder / "local-model" / "checkpoint.npz") in text
    assert "--checkpoint FILE" in text


def test_not_found(server, tmp_path):
    server.status = 404
    text = failure(server.model, tmp_path)
    assert "the server answers 404 Not Found" in text
    assert_says_what_to_do(text, server.model, tmp_path)


def test_connection_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(b"") as closed:
        model = closed.model
    text = failure(model, tmp_path)
    assert "refused" in text
    assert_says_what_to_do(text, model, tmp_path)


def test_silent_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    server.silent.set()
    text = failure(server.model, tmp_path)
    assert "timed out" in text
    assert_says_what_to_do(text, server.model, tmp_path)


def test_redirect_away_from_https_is_refused(server, tmp_path):
    server.status, server.location = 302, "http://127.0.0.1:9/elsewhere.npz"
    text = failure(server.model, tmp_path)
    assert "redirects to 'http://127.0.0.1:9/elsewhere.npz', which is not HTTPS" in text


def test_folder_that_cannot_be_used(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    text = failure(server.model, tmp_path / "file" / "cache")
    assert (
        f"cannot use the cache folder {str(tmp_path / 'file' / 'cache' / 'local-model')!r}" in text
    )
    assert "MAXIM_DEPLOY_CACHE" in text
    assert server.requests == []


def digest_of(content: bytes, name: str) -> str:
    return base64.b64encode(hashlib.new(name, content).digest()).decode()


def test_two_at_once_are_one_download(server, content, tmp_path):
    """They wrote into one file, and one of them failed, or both."""
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(lambda _: download(server.model, folder=tmp_path), range(3)))
    assert len(set(paths)) == 1 and paths[0].read_bytes() == content
    assert len(server.requests) == 1
    assert names(tmp_path) == ["checkpoint.npz", "checkpoint.npz.sha256"]


def test_the_first_one_is_announced(server, content, tmp_path, caplog):
    server.stated = {"x-goog-hash": f"crc32c=AAAAAA==,md5={digest_of(content, 'md5')}"}
    with caplog.at_level(logging.WARNING, "maxim_deploy"):
        download(server.model, folder=tmp_path)
        download(server.model, folder=tmp_path)
    (said,) = caplog.messages
    assert "its SHA-256 was not known before; it matches the server's MD5" in said
    assert hashlib.sha256(content).hexdigest() in said and "--sha256" in said


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-goog-hash", "md5={md5}"),
        ("Repr-Digest", "sha-256=:{sha256}:"),
        ("Digest", "SHA-256={sha256},md5={md5}"),
    ],
)
def test_what_the_server_states_is_compared(cut, content, tmp_path, header, value):
    """Also for a download that was resumed: these hashes are of the whole file."""
    listed = {name: digest_of(b"another", name) for name in ("md5", "sha256")}
    cut.stated = {header: value.format(**listed)}
    assert "the server states" in failure(cut.model, tmp_path)
    assert names(tmp_path) == []
    listed = {name: digest_of(content, name) for name in ("md5", "sha256")}
    cut.stated = {header: value.format(**listed)}
    assert download(cut.model, folder=tmp_path).read_bytes() == content


def test_a_hash_that_nobody_can_read_is_none(server, content, tmp_path):
    server.stated = {"x-goog-hash": "md5=A", "Digest": "unixsum=30637"}
    assert download(server.model, folder=tmp_path).read_bytes() == content


@pytest.mark.parametrize("from_table", [True, False])
def test_a_pinned_download(server, content, tmp_path, monkeypatch, caplog, from_table):
    digest, pin = hashlib.sha256(content).hexdigest(), {"sha256": "0" * 64}
    if from_table:
        monkeypatch.setitem(models.SHA256_OF_CHECKPOINTS, "local-model", pin.pop("sha256"))
    with pytest.raises(DownloadError, match=f"its SHA-256 is {digest}, expected is 0000"):
        download(server.model, folder=tmp_path, **pin)
    assert names(tmp_path) == []
    if from_table:
        monkeypatch.setitem(models.SHA256_OF_CHECKPOINTS, "local-model", digest)
    path = download(server.model, folder=tmp_path, **dict.fromkeys(pin, digest))
    assert "trusted on first use" not in caplog.text
    with pytest.raises(DownloadError, match=r"is another file: .* expected is ffff"):
        download(server.model, folder=tmp_path, sha256="f" * 64)
    assert path.read_bytes() == content


def test_only_accepted_weights_are_remembered(server, tmp_path):
    def refused():
        with downloaded(server.model, folder=tmp_path):
            raise CheckpointError("weights of a cat")

    for _ in range(2):
        with pytest.raises(CheckpointError, match="cat"):
            refused()
    assert names(tmp_path) == ["checkpoint.npz"] and len(server.requests) == 1
    (tmp_path / "local-model" / "checkpoint.npz").unlink()
    download(server.model, folder=tmp_path)
    assert len(server.requests) == 2


@pytest.mark.parametrize("place", ["", "local-model"])
@pytest.mark.skipif(os.name == "nt", reason="Windows keeps permissions elsewhere")
def test_a_cache_that_everybody_can_write_to(server, tmp_path, place):
    (tmp_path / "local-model").mkdir()
    (tmp_path / place).chmod(0o777)
    with pytest.raises(UsageError, match=r"other users can write to it \(mode 777\).*chmod o-w"):
        download(server.model, folder=tmp_path)
    assert server.requests == []
    (tmp_path / place).chmod(0o1777)  # as /tmp
    download(server.model, folder=tmp_path)


@pytest.mark.parametrize("name", ["checkpoint.npz.sha256", "checkpoint.npz.partial"])
def test_links_in_the_cache_are_not_followed(server, content, tmp_path, name):
    (victim := tmp_path / "victim").write_text("mine")
    (tmp_path / "local-model").mkdir()
    (tmp_path / "local-model" / name).symlink_to(victim)
    with suppress(DownloadError):
        download(server.model, folder=tmp_path)
    assert download(server.model, folder=tmp_path).read_bytes() == content
    assert victim.read_text() == "mine"


def test_hashes_in_the_table_are_of_known_models():
    assert models.SHA256_OF_CHECKPOINTS.keys() <= models.PUBLISHED.keys()
    for digest in models.SHA256_OF_CHECKPOINTS.values():
        assert SHA256.fullmatch(digest)
