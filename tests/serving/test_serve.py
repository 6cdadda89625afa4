"""`maxim-deploy serve` as a process: what it prints, how it ends, and how it is misused."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest
from bundles import write_identity_bundle
from cli.commands import command

pytest.importorskip("starlette", reason="pip install 'maxim-deploy[serve]'")

from serving.http_services import content, refused, serving_process, until

SLOW = """
import time
from maxim_deploy import runtime
from runtime.fakes import Stoppable, restorer_of
class Slow(Stoppable):
    def run(self, image, turn=None):
        if image.shape[3] == 128:
            until = time.monotonic() + {seconds}
            while time.monotonic() < until:
                turn.stop.raise_if_set()
                time.sleep(0.01)
        return super().run(image, turn)
runtime.load = lambda *_, **__: restorer_of(Slow(let_go=True))
"""
"""A network that takes so long for pictures that are 128 wide."""

LARGE = content((64, 128))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_identity_bundle(tmp_path_factory.mktemp("serve") / "bundle")


def test_a_bundle_is_served_until_ctrl_c(bundle: Path) -> None:
    options = ("--threads", 1, "--max-memory", "4GiB", "--tile", 128, "--warmup", "64x64")
    with serving_process(bundle, *options) as (process, client):
        sent = content((200, 150))
        assert (client.post(sent).pixels == content_pixels(sent)).all()
        assert client.get("/healthz").status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == ""
    assert "tiny" in err and "POST pictures to http://127.0.0.1:" in err
    assert "stopping: answering the current pictures" in err
    assert "stopped after 1 restored" in err


def content_pixels(sent: bytes):
    import io

    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(sent)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_requests_under_way_are_answered_and_new_ones_refused(number: signal.Signals) -> None:
    with serving_process("bundle", "--json", before=SLOW.format(seconds=1.5)) as (process, client):
        connection = client.begin(LARGE)
        until(lambda: b"maxim_requests_in_progress 1.0" in client.get("/metrics").body)
        process.send_signal(number)
        until(lambda: refused(client.port))
        assert connection.getresponse().status == 200
        connection.close()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    request, stopped = map(json.loads, out.splitlines())
    assert (request["event"], request["outcome"], request["status"]) == ("request", "restored", 200)
    assert (request["height"], request["width"], request["error"]) == (64, 128, None)
    assert request["seconds"] > request["times"]["network"] > 1
    assert stopped == {"event": "stopped", "requests": {"restored": 1}}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_stops_at_once(number: signal.Signals, code: int) -> None:
    with serving_process("bundle", before=SLOW.format(seconds=600)) as (process, client):
        connection = client.begin(LARGE)
        until(lambda: b"maxim_requests_in_progress 1.0" in client.get("/metrics").body)
        process.send_signal(number)
        until(lambda: refused(client.port))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == code, err
    assert "Traceback" not in err


def test_a_log_that_is_not_read_any_more_stops_nothing(bundle: Path) -> None:
    with serving_process(bundle, "--json") as (process, client):
        process.stdout.close()
        assert [client.post(content()).status for _ in range(3)] == [200] * 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "requests are no longer logged" in process.stderr.read()


def test_verbose_says_a_line_for_each_request(bundle: Path) -> None:
    with serving_process(bundle, "-v") as (process, client):
        client.post(b"nothing")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert "bad_picture (415) in 0." in err
    assert "is damaged or not an image" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--timeout", "soon"], "--timeout must be an amount such as 90s"),
        (["--max-bytes", "0"], "--max-bytes must be more than zero"),
        (["--queue", "-1"], "Invalid value for '--queue'"),
        (["--port", "70000"], "Invalid value for '--port'"),
        (["--host", "no such host"], "is no address of this machine"),
        (["--warmup", "64"], "'64' is not a size; write HxW"),
        (["--backend", "onnxruntim"], "did you mean 'onnxruntime'?"),
        (["--lanes", "many"], "lanes must be 'auto' or a number"),
    ],
)
def test_misuse(bundle: Path, arguments: list[str], words: str) -> None:
    ended = command("main", "serve", bundle, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr and "Traceback" not in ended.stderr


def test_a_port_that_is_taken(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = command("main", "serve", bundle, "--port", port)
    assert ended.returncode == 2
    assert f"http://127.0.0.1:{port} | cannot be served: Address already in use | " in ended.stderr


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    ended = command("main", "serve", tmp_path / "none")
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr and "none" in ended.stderr
