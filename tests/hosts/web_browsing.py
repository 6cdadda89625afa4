"""Serving a site, and what a user does with its page."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
PATIENCE = 600
"""Seconds until a page must have ended what it does."""


class _Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        for name, value in self.server.headers.items():  # type: ignore[attr-defined]
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path, headers: dict[str, str]) -> Iterator[str]:
    """The address of a folder that `http.server` serves, with more headers."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.headers = headers  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextmanager
def recording_proxy() -> Iterator[tuple[str, list[str]]]:
    """(address of a proxy, what it was asked for); it reaches nothing."""
    asked: list[str] = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            asked.append(self.path)
            self.send_error(502)

        do_GET = do_POST = do_HEAD = do_CONNECT = refuse  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


class Page:
    """The page in a browser, and what a user does with it.

    Args:
        browser: a driver.
        address: of the site.
        downloads: an empty folder for what is saved.
    """

    def __init__(self, browser: Any, address: str, downloads: Path) -> None:
        self.browser, self.address, self.downloads = browser, address, downloads
        behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)

    def open(self) -> None:
        self.browser.get(self.address)
        assert self.ended() == "Ready. Choose a picture."

    def find(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    @property
    def status(self) -> str:
        return str(self.find("status").get_property("textContent"))

    def facts(self) -> dict[str, str]:
        """The list under "How it runs"."""
        lines = self.find("facts").text.split("\n")
        return dict(zip(lines[::2], lines[1::2], strict=True))

    def wait(self, happened: Any) -> None:
        begin = time.monotonic()
        while not happened():
            assert time.monotonic() - begin < PATIENCE, self.status
            time.sleep(0.05)

    def ended(self) -> str:
        """The status when nothing is being done any more."""
        self.wait(lambda: "Loading. If" not in self.status)
        self.wait(lambda: not self.find("working").is_displayed())
        return self.status

    def choose(self, path: Path) -> None:
        self.find("file").send_keys(str(path))

    def restore(self, path: Path) -> str:
        self.choose(path)
        return self.ended()

    def save(self) -> Path:
        """The file that the link saves."""
        name = self.find("save").get_attribute("download")
        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.find("save").click()
        self.wait(path.exists)
        return path


def problems(browser: Any) -> list[str]:
    """What a browser's console has complained of since the last call."""
    log = browser.get_log("browser")
    return [entry["message"] for entry in log if entry["level"] != "INFO"]
