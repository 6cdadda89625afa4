"""What goes wrong with URLs: messages that name the place and never a secret, and exit codes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from cli.extras import run_with
from cli.running import ROOT, child, maxim_run
from click.testing import Result
from inverter import Inverter, picture
from objects.stores import KEY, SECRET, Bucket

from maxim_deploy import StoreError, UsageError, restore_file
from maxim_deploy.jobs.restore import plan_any


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    picture("a.png")
    return folder


def ended(code: int, *args: str) -> str:
    """What a command says that ends with a code; no secret is in it."""
    result: Result = maxim_run(*args, "-v", "-v")
    said = result.stderr + result.stdout
    assert result.exit_code == code, said
    assert SECRET not in said and KEY not in said and "Traceback" not in said
    return result.stderr


def test_a_bucket_that_is_not_there(bucket: Bucket, network: Inverter):
    for code, args in (
        (1, ("s3://none-here/a.png", "-o", "out")),
        (1, ("a.png", "-o", "s3://none-here/x")),
    ):
        said = ended(code, *args)
        assert "'s3://none-here/" in said and ("no such bucket" in said or "no such object" in said)
    assert network.loaded == []


def test_an_object_that_is_not_there(bucket: Bucket, network: Inverter):
    bucket.picture("b.png")
    said = ended(1, f"{bucket.url}/none.png", f"{bucket.url}/b.png", "-o", "out")
    assert f"'{bucket.url}/none.png' | cannot be read: there is no such object" in said
    assert Path("out/b.png").exists()


def test_a_prefix_without_pictures(bucket: Bucket, network: Inverter):
    bucket.put("texts/a.txt", b"x")
    said = ended(2, f"{bucket.url}/texts", "-o", "out")
    assert "no image or video files in there; skipped 1 of other suffixes" in said


@pytest.fixture
def strict(bucket: Bucket) -> Iterator[None]:
    """The server checks who asks from now on: nobody is known."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]

    def check_after(requests: bytes) -> None:
        to = f"{endpoint}/moto-api/reset-auth"
        with urlopen(Request(to, requests, {"Content-Type": "text/plain"}, method="POST")):
            pass

    check_after(b"0")
    yield
    check_after(b"1000000000")


def test_wrong_credentials(bucket: Bucket, strict: None, network: Inverter):
    said = ended(1, f"{bucket.url}/a.png", "-o", "out")
    assert f"'{bucket.url}/a.png' | cannot be read: " in said
    assert "credentials" in said or "access is denied" in said
    said = ended(1, "a.png", "-o", f"{bucket.url}/out")
    assert f"'{bucket.url}/out" in said and "cannot be written" in said


def test_no_credentials(bucket: Bucket, network: Inverter, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "no credentials | set AWS_PROFILE" in ended(1, f"{bucket.url}/a.png", "-o", "out")


def test_a_server_that_is_not_there(bucket: Bucket, network: Inverter, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    said = ended(1, f"{bucket.url}/a.png", "-o", "out")
    assert "the server cannot be reached | check the network" in said
    said = ended(1, f"http://127.0.0.1:{port}/a.png", "-o", "out")
    assert "the server cannot be reached | check the network" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("s4://b/a.png", "-o", "out"), "unknown protocol 's4' | expected s3 or https"),
        (
            ("a.png", "-o", "https://host/out"),
            "output 'https://host/out' | web servers are read-only",
        ),
        (("file:///tmp/a.png", "-o", "out"), "give its path: /tmp/a.png"),
        (("zip://a.png::s3://b/c.zip", "-o", "out"), "has several protocols"),
        (("s3://user:pass@b/a.png", "-o", "out"), "'s3://b/a.png' | contains a password"),
        (("s3://b/a.png", "-o", "out", "--plan"), "--plan reads sizes of local files only"),
        (("s3://b/a.png", "-o", "out", "--shard", "2/2"), "expected I/N"),
    ],
)
def test_wrong_usage(bucket: Bucket, network: Inverter, args, message: str):
    if "--plan" in args:
        bucket.picture("a.png")
        args = (f"{bucket.url}/a.png", *args[1:])
    said = ended(2, *args)
    assert message in said and "user:pass" not in said


def test_one_file_from_python(bucket: Bucket):
    with pytest.raises(UsageError, match="pass URLs to restore_files"):
        restore_file(None, "s3://b/a.png", "a.png")  # type: ignore[arg-type]


def test_a_plan_is_for_one_run(bucket: Bucket, network: Inverter):
    from maxim_deploy import restore_files

    plan = plan_any(bucket.picture("b.png"), "out")
    assert [result.error for result in restore_files("bundle", plan)] == [None]
    with pytest.raises(UsageError, match="for one run"):
        restore_files("bundle", plan)


def test_errors_drop_what_libraries_say(bucket: Bucket):
    from maxim_deploy.jobs.store_opening import stored_object

    with pytest.raises(StoreError) as caught:
        one = stored_object("s3://none-here/a.png")
        one.store.objects_below(one, recursive=True), one.store.write(one, b"")
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_protocol_that_is_not_tested_is_let_through(network: Inverter, caplog):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/in/a.png", Path("a.png").read_bytes())
    for status in ("1 restored", "1 finished before"):
        result = maxim_run("memory://in", "-o", "memory://out", "--resume")
        assert result.exit_code == 0 and status in result.stderr, result.stderr
        assert result.stdout == "memory://out/a.png\n"
    assert "memory:// is not tested with maxim-deploy" in result.stderr + caplog.text


def test_without_the_extra(tmp_path: Path):
    commands = [["run", "B", url, "-o", "out"] for url in ("s3://b/a.png", "https://host/a.png")]
    for done in run_with(["cpu"], commands, tmp_path):
        assert done.code == 2 and "pip install 'maxim-deploy[cloud]'" in done.err, done


def test_without_a_url_nothing_of_it_is_imported(tmp_path: Path):
    code = (
        "import sys\n"
        "from maxim_deploy.jobs.restore import plan_any\n"
        f"plan_any({str(Path('a.png').resolve())!r}, 'out')\n"
        "names = 'fsspec', 's3fs', 'aiohttp', 'botocore', 'maxim_deploy.jobs.places', "
        "'maxim_deploy.jobs.stores'\n"
        "print([name for name in names if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_full_disk_is_named(bucket: Bucket):
    """A file system that is full, as far as the reader can tell."""
    body = """
import errno
from maxim_deploy.jobs import stores
def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
stores.Store.download = stores.Store.download
from s3fs import S3FileSystem
S3FileSystem.get_file = full
"""
    done = child(body, bucket.picture("b.png"), "-o", "out")
    assert done.returncode == 1 and "set TMPDIR to a folder with more space" in done.stderr
