"""A server of S3 for the whole run, a bucket for each test, and no state between tests."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="pip install 'maxim-deploy[cloud]'")
pytest.importorskip("moto", reason="pip install moto flask flask-cors")

from objects.stores import KEY, REGION, SECRET, Bucket

from maxim_deploy.jobs import store_opening


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, environment: None) -> Bucket:
    """An empty one, to which the environment has the keys."""
    return Bucket(endpoint, f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def environment(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user of the server; nothing of this machine's own user."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """A file system of fsspec keeps the environment that it was made in."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    from fsspec.implementations.http import HTTPFileSystem
    from s3fs import S3FileSystem

    for kind in (HTTPFileSystem, S3FileSystem):
        kind.clear_instance_cache()
    store_opening._store.cache_clear()
