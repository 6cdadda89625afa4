"""Servers for tests: of S3 (moto, SeaweedFS) and of web pages, all on the loopback address."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config
from PIL import Image

KEY, SECRET, REGION = "AKIAMAXIMTESTS", "this-secret-is-shown-nowhere", "eu-central-1"

Answer = Callable[[BaseHTTPRequestHandler], None]


class Bucket:
    """A bucket as its owner sees it, with another client than ours."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.name, self.url = name, f"s3://{name}"
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
        )
        where = {"LocationConstraint": REGION}
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration=where)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def picture(self, key: str, level: int = 10) -> str:
        """Put a picture of one level; its URL."""
        self.put(key, encoded(level, Path(key).suffix))
        return f"{self.url}/{key}"

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def level(self, key: str) -> int:
        """Of the first pixel of a picture."""
        return int(np.asarray(Image.open(io.BytesIO(self.get(key))))[0, 0, 0])

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "", *, records: bool = False) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", [])
        keys = [one["Key"] for one in found]
        return [key for key in keys if records or "/.maxim-run/" not in key]

    def unfinished_uploads(self) -> list[Any]:
        listed: list[Any] = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return listed


def encoded(level: int, suffix: str = ".png") -> bytes:
    file = io.BytesIO()
    kind = {".jpg": "JPEG", ".png": "PNG"}.get(suffix, "PNG")
    Image.new("RGB", (6, 4), (level, level, level)).save(file, kind)
    return file.getvalue()


@contextmanager
def web_server(answer: Answer, context: Any = None) -> Iterator[str]:
    """A server whose every answer is given by a function; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        do_HEAD = do_GET  # noqa: N815  # the base class says so

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, **more: str) -> None:
    """Answer with a content, or with its head alone."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    for name, value in more.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(content)
