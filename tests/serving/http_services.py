"""Services on a free port of this machine, and a client for them."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import maxim_deploy
from maxim_deploy import Restorer
from maxim_deploy.serving.http.application import application_of
from maxim_deploy.serving.http.limits import Limits
from maxim_deploy.serving.http.record import Record
from maxim_deploy.serving.http.server import Server, bound_socket
from maxim_deploy.serving.http.service import Service

ROOT = Path(maxim_deploy.__file__).parents[1]
TESTS = Path(__file__).parents[1]


@dataclass
class Reply:
    """What a service has answered."""

    status: int
    headers: Message
    body: bytes

    @property
    def error(self) -> str:
        (text,) = json.loads(self.body).values()
        return text

    @property
    def pixels(self) -> np.ndarray:
        assert self.status == 200, self.body
        return np.asarray(Image.open(io.BytesIO(self.body)))


@dataclass
class Client:
    """Sends requests, each over a connection of its own."""

    port: int

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self.connection()
        try:
            connection.request(method, path, body, names)
            reply = connection.getresponse()
            return Reply(reply.status, reply.headers, reply.read())
        finally:
            connection.close()

    def post(self, body: Any, query: str = "", **headers: str) -> Reply:
        return self.request("POST", f"/restore{query}", body, **headers)

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def begin(self, body: bytes) -> http.client.HTTPConnection:
        """Send a picture, and do not wait for the answer."""
        connection = self.connection()
        connection.request("POST", "/restore", body)
        return connection


@dataclass
class Served(Client):
    """A service in this process."""

    service: Service
    server: Server
    records: list[Record]

    def post(self, body: Any, query: str = "", **headers: str) -> Reply:
        """As of a client; returns once the request is recorded, which is just after its answer."""
        known = len(self.records)
        reply = super().post(body, query, **headers)
        until(lambda: len(self.records) > known)
        return reply


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


def refused(port: int) -> bool:
    """Whether nothing listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except ConnectionRefusedError:
        return True
    return False


@contextmanager
def served(restorer: Restorer, **limits: Any) -> Iterator[Served]:
    """Serve a restorer, which stays open, in a thread until the block ends."""
    records: list[Record] = []
    service = Service(restorer, Limits(**limits), records.append)
    service.health.prepare()
    server = Server(application_of(service), service.limits.timeout_s)
    with bound_socket("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(port, service, server, records)
        finally:
            server.stop()
            thread.join(60)
            assert not thread.is_alive(), "the server does not stop"
            service.close()


@contextmanager
def serving_process(
    *arguments: object, before: str = ""
) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """`maxim-deploy serve` in a process of its own, once it listens; killed if it has not ended."""
    script = f"{before}\nfrom maxim_deploy.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "serve", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}"},
    )
    try:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        assert line, process.stderr.read()
        url = json.loads(line)["url"] if line.startswith("{") else line.strip()
        yield process, Client(int(url.rpartition(":")[2]))
    finally:
        process.kill()
        process.communicate()


def content(
    size: tuple[int, int] = (64, 64), image_format: str = "PNG", mode: str = "RGB", **options: Any
) -> bytes:
    """A noisy picture of (height, width) as the content of a file."""
    generator = np.random.default_rng(size[0])
    pixels = generator.integers(0, 128, (*size, Image.getmodebands(mode)), np.uint8)
    file = io.BytesIO()
    # One channel is an array of two axes for Pillow.
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
    image.save(file, image_format, **options)
    return file.getvalue()
