"""The door to fsspec by itself: large objects, interruptions, and how URLs are shown."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from objects.stores import Bucket

from maxim_deploy import CancelledError
from maxim_deploy.jobs import stores
from maxim_deploy.jobs.store_opening import stored_object
from maxim_deploy.jobs.urls import is_url, name_of, shown

MIB = 2**20


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of three parts."""
    monkeypatch.setattr(stores, "_BLOCK", 5 * MIB)
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (12 * MIB // 256))
    return path


def test_a_large_file_goes_up_in_parts_and_comes_back(
    bucket: Bucket, large: Path, tmp_path: Path
) -> None:
    one = stored_object(f"{bucket.url}/large")
    stored = one.store.upload(large, one, threading.Event())
    assert stored.size == 12 * MIB and stored.version and stored.version.startswith("ETag")
    assert bucket.get("large") == large.read_bytes()
    one.store.download(stored, tmp_path / "back", threading.Event())
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


class AfterParts(threading.Event):
    """Is set from the second look on: in the middle of a transfer."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks > 1


def test_an_upload_that_is_interrupted_leaves_nothing(bucket: Bucket, large: Path) -> None:
    bucket.put("large", b"as it was")
    one = stored_object(f"{bucket.url}/large")
    with pytest.raises(CancelledError):
        one.store.upload(large, one, AfterParts())
    assert bucket.get("large") == b"as it was"
    assert bucket.unfinished_uploads() == []


def test_a_download_that_is_interrupted(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("large", bytes(MIB))
    one = stored_object(f"{bucket.url}/large")
    with pytest.raises(CancelledError):
        one.store.download(one, tmp_path / "back", AfterParts())


@pytest.mark.parametrize(
    ("url", "text", "name"),
    [
        ("s3://bucket/a/b.png", "s3://bucket/a/b.png", "b.png"),
        ("s3://bucket/what?.png", "s3://bucket/what?.png", "what?.png"),
        ("https://u:p@host:8/a%20b.png?key=1#x", "https://host:8/a%20b.png", "a b.png"),
        ("https://token@host/a.png", "https://host/a.png", "a.png"),
        ("https://host/a%2F..%2Fb.png", "https://host/a%2F..%2Fb.png", "a_.._b.png"),
        ("https://host/a/%2E%2E", "https://host/a/%2E%2E", ""),
        ("https://host/", "https://host/", ""),
        ("https://host?url=s3://x/y", "https://host", ""),
        ("sftp://me:secret@host/a.png", "sftp://host/a.png", "a.png"),
        ("abfs://box@account.host/a.png", "abfs://box@account.host/a.png", "a.png"),
        ("s3://b/\x1b[2J.png", "s3://b/\\x1b[2J.png", "\x1b[2J.png"),
    ],
)
def test_how_a_url_is_shown(url: str, text: str, name: str) -> None:
    assert is_url(url) and shown(url) == text and name_of(url) == name


@pytest.mark.parametrize(
    "text", ["a.png", "/a/b", "C:\\a", "C:/a", "s3:/b/a", "", None, Path("s3://a")]
)
def test_what_is_no_url(text: object) -> None:
    assert not is_url(text)
