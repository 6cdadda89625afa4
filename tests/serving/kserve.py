"""A server that speaks as much of the inference protocol over HTTP as a check needs."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

LENGTH = "Inference-Header-Content-Length"
ENDS = {
    "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
    "outputs": [{"name": "restored", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
}

Restore = Callable[[np.ndarray], np.ndarray | str]
"""From pictures `[N, H, W, 3]` to such; text for an error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    restore: Restore
    metadata: dict

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/v2/models/tiny"):
            self.answer(200, {"name": "tiny", "versions": ["1"], **self.metadata})
        else:
            self.answer(400, {"error": f"Request for unknown model: {self.path!r} is not found"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = int(self.headers[LENGTH])
        (image,) = json.loads(body[:head])["inputs"]
        found = self.restore(np.frombuffer(body[head:], np.uint8).reshape(image["shape"]))
        if isinstance(found, str):
            self.answer(400, {"error": found})
            return
        size = {"binary_data_size": found.nbytes}
        output = {"name": "restored", "datatype": "UINT8", "shape": found.shape, "parameters": size}
        self.answer(200, {"model_name": "tiny", "outputs": [output]}, found.tobytes())

    def answer(self, code: int, document: dict, binary: bytes = b"") -> None:
        head = json.dumps(document).encode()
        self.send_response(code)
        if binary:
            self.send_header(LENGTH, str(len(head)))
        self.send_header("Content-Length", str(len(head) + len(binary)))
        self.end_headers()
        self.wfile.write(head + binary)


@contextmanager
def serving(
    restore: Restore, metadata: dict = ENDS, certificate: Path | None = None
) -> Iterator[str]:
    """The URL of a server for the block; with a certificate and its key in one file, over TLS."""
    handler = type("Handler", (Handler,), {"restore": staticmethod(restore), "metadata": metadata})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
