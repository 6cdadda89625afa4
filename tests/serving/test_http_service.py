"""The small service: what it answers, refuses and keeps, and what happens when it is busy."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runtime.fakes import Doubling, Stoppable, restorer_of

pytest.importorskip("starlette", reason="pip install 'maxim-deploy[serve]'")

from prometheus_client.parser import text_string_to_metric_families
from serving.http_services import Served, content, refused, served, until

from maxim_deploy import BackendError, Picture, read_image, write_image
from maxim_deploy.errors import OutOfMemoryError
from maxim_deploy.imaging.files import FORMAT_OF_SUFFIX
from maxim_deploy.serving.http import health
from maxim_deploy.serving.http.formats import MEDIA_TYPES


class Failing(Doubling):
    """Fails for pictures other than the health picture, or for all, with an error."""

    error: Exception | None = None
    is_dead = False

    def run(self, image: np.ndarray) -> np.ndarray:
        if self.error and (self.is_dead or image.shape[2:] != (64, 64)):
            raise self.error
        return super().run(image)


@pytest.fixture(scope="module")
def doubling() -> Iterator[Served]:
    """A service whose network doubles the levels."""
    limits = {"most_bytes": 200_000, "most_pixels": 300 * 300}
    with restorer_of(Doubling()) as restorer, served(restorer, **limits) as service:
        yield service


@pytest.fixture
def backend() -> Stoppable:
    return Stoppable(let_go=True)


@pytest.fixture
def held(backend: Stoppable) -> Iterator[Callable[..., Served]]:
    """Make a service whose network runs until the test, or its end, lets it go."""
    stack: list = []

    def make(**limits) -> Served:
        restorer = restorer_of(backend)
        serving = served(restorer, **limits)
        service = serving.__enter__()
        stack.append((restorer, serving))
        backend.begun.get(timeout=20)  # the health picture
        backend.let_go.clear()
        return service

    yield make
    backend.let_go.set()
    for restorer, serving in stack:
        serving.__exit__(None, None, None)
        restorer.close()


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WebP", "TIFF", "BMP", "GIF", "PPM"])
def test_a_picture_of_any_format_comes_back_as_png(doubling: Served, image_format: str) -> None:
    options = {"lossless": True} if image_format == "WebP" else {}
    mode = "L" if image_format == "GIF" else "RGB"
    sent = content((40, 70), image_format, mode, **options)
    reply = doubling.post(sent)
    assert reply.headers["Content-Type"] == "image/png"
    before = np.asarray(Image.open(io.BytesIO(sent)).convert("RGB"))
    after = np.asarray(Image.open(io.BytesIO(reply.body)).convert("RGB"))
    assert np.array_equal(after, np.minimum(before * 2.0, 255))
    assert reply.headers.get_all("Maxim-Warning") is None
    steps = [one.partition(";")[0] for one in reply.headers["Server-Timing"].split(", ")]
    assert steps == ["read", "wait", "decode", "network", "encode"]
    record = doubling.records[-1]
    assert (record.outcome, record.status) == ("restored", 200)
    assert (record.height, record.width) == (40, 70)
    assert (record.bytes_in, record.bytes_out) == (len(sent), len(reply.body))


@pytest.mark.parametrize("name", [suffix[1:] for suffix in FORMAT_OF_SUFFIX])
def test_the_query_asks_for_a_format(doubling: Served, name: str) -> None:
    reply = doubling.post(content(), f"?format={name}", Accept="image/png")
    image_format = FORMAT_OF_SUFFIX[f".{name}"]
    assert reply.headers["Content-Type"] == MEDIA_TYPES[image_format]
    assert Image.open(io.BytesIO(reply.body)).format == image_format.upper()


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/webp", "image/webp"),
        ("*/*", "image/png"),
        ("image/avif,image/webp,image/*,*/*;q=0.8", "image/webp"),
        ("image/jpeg;q=0.5, image/tiff;q=0.9", "image/tiff"),
        ("text/html, image/bmp;q=0", None),
        ("application/json", None),
    ],
)
def test_the_header_asks_for_a_format(
    doubling: Served, accept: str, media_type: str | None
) -> None:
    reply = doubling.post(content(), Accept=accept)
    if media_type is None:
        assert reply.status == 406
        assert "written are image/png, image/jpeg, image/webp" in reply.error
    else:
        assert (reply.status, reply.headers["Content-Type"]) == (200, media_type)


def test_what_belongs_to_a_picture_is_kept(doubling: Served, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"  # lies on its side
    sent = content((20, 30), "JPEG", exif=exif, icc_profile=b"a profile")
    for name in ("png", "jpg", "webp", "tif"):
        path = tmp_path / f"b.{name}"
        path.write_bytes(doubling.post(sent, f"?format={name}").body)
        after = read_image(path)
        assert after.rgb.shape == (30, 20, 3)
        assert (after.icc_profile, b"A camera" in (after.exif or b"")) == (b"a profile", True)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_greyness_and_alpha_are_kept(doubling: Served, tmp_path: Path, mode: str) -> None:
    (tmp_path / "a.png").write_bytes(content((9, 7), mode=mode))
    (tmp_path / "b.png").write_bytes(doubling.post((tmp_path / "a.png").read_bytes()).body)
    before, after = read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png")
    assert after.is_grey == before.is_grey
    assert np.array_equal(after.alpha, before.alpha)


def test_sixteen_bits_are_kept(doubling: Served, tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs", reason="pip install 'maxim-deploy[hdr]'")
    rgb = np.random.default_rng(0).integers(0, 32768, (9, 7, 3), np.uint16)
    write_image(tmp_path / "a.tif", rgb, like=Picture(rgb))
    sent = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.png").write_bytes(doubling.post(sent).body)
    assert np.array_equal(read_image(tmp_path / "b.png").rgb, 2 * rgb)
    assert "16 bits" in doubling.post(sent, "?format=jpg").error


def test_a_warning_is_a_header(doubling: Served) -> None:
    sent = content(image_format="JPEG", comment="Änderung\r\nX-Injected: 1")
    reply = doubling.post(sent, "?format=webp")
    assert reply.headers.get_all("Maxim-Warning") == [
        "left out: the resolution, which WebP output does not keep",
        "left out: the comments, which WebP output does not keep",
    ] or reply.headers.get_all("Maxim-Warning") == [
        "left out: the comments, which WebP output does not keep"
    ]
    cut = content(image_format="JPEG")[:-2]
    assert doubling.post(cut).headers.get_all("Maxim-Warning") == ["the end marker is missing"]


# ------------------------------------------------------------------ refusals


BIG = content((310, 300), "JPEG")
REFUSED = {
    "empty": (b"", "", {}, 400, "the body is empty | send the picture itself"),
    "text": (b"hello", "", {}, 415, "picture | is damaged or not an image | expected PNG, JPEG"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(99), "", {}, 415, "is HEIC, which is not read"),
    "truncated": (content()[:3000], "", {}, 400, "picture | "),
    "frames": (
        content(image_format="GIF", mode="L", save_all=True,
                append_images=[Image.new("L", (64, 64), 9)]),
        "", {}, 400, "has 2 frames",
    ),
    "form": (b"x", "", {"Content_Type": "multipart/form-data; boundary=b"}, 415, "is a form"),
    "gzip": (b"x", "", {"Content_Encoding": "gzip"}, 415, "is compressed"),
    "pixels": (BIG, "", {}, 413, "310x300, 93,000 pixels | this service takes up to 90,000"),
    "bytes": (bytes(200_001), "", {}, 413, "the body has more than the 200,000 bytes"),
    "alpha": (content(mode="RGBA"), "?format=jpeg", {}, 422, "cannot hold the transparency"),
    "format": (content(), "?format=jpgg", {}, 400, "unknown format 'jpgg' (did you mean 'jpg'?)"),
    "query": (content(), "?fromat=png", {}, 400, "unknown query 'fromat' (did you mean 'format'?)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_how(doubling: Served, name: str) -> None:
    body, query, headers, status, words = REFUSED[name]
    reply = doubling.post(body, query, **headers)
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/json")
    assert words in reply.error
    assert doubling.records[-1].error == reply.error
    assert doubling.post(content()).status == 200


def test_a_body_without_a_length_is_read_to_the_limit(doubling: Served) -> None:
    reply = doubling.post(iter([bytes(150_000)] * 2))
    assert (reply.status, "more than the 200,000 bytes" in reply.error) == (413, True)
    sent = content()
    assert doubling.post(iter([sent[:1000], sent[1000:]])).status == 200


def test_a_client_that_waits_for_leave_is_refused_without_a_body(doubling: Served) -> None:
    with socket.create_connection(("127.0.0.1", doubling.port), timeout=20) as connection:
        connection.sendall(
            b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_other_addresses_and_methods(doubling: Served) -> None:
    assert (doubling.get("/x").status, "POST a picture" in doubling.get("/x").error) == (404, True)
    reply = doubling.get("/restore")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    about = doubling.get("/")
    assert about.status == 200 and b'"model":"x"' in about.body
    assert b"PNG" in about.body and b"image/webp" in about.body


def test_what_is_no_http_is_refused(doubling: Served) -> None:
    with socket.create_connection(("127.0.0.1", doubling.port), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BackendError("node 7 of /home/me/bundle failed"), 500, "the network failed"),
        (OutOfMemoryError("no room in /dev/gpu"), 503, "not enough memory for this picture now"),
        (RuntimeError("a bug in /home/me"), 500, "the network failed"),
    ],
)
def test_a_network_that_fails_tells_no_path(error, status: int, words: str, caplog) -> None:
    backend = Failing()
    with restorer_of(backend) as restorer, served(restorer) as service:
        backend.error = error
        reply = service.post(content((64, 128)))
        assert (reply.status, words in reply.error) == (status, True)
        assert b"/home" not in reply.body and b"Traceback" not in reply.body
        assert str(error) in caplog.text, "the log has the reason"
        backend.error = None
        assert service.post(content((64, 128))).status == 200


def test_a_picture_beyond_the_memory_is_refused() -> None:
    limits = {"limit": 100 * 64 * 64, "tile": "off"}
    with restorer_of(Doubling(), **limits) as restorer, served(restorer) as service:
        reply = service.post(content((65, 64)))
        assert (reply.status, reply.error.startswith("picture | ")) == (413, True)
        assert service.records[-1].outcome == "too_large"
        assert service.post(content()).status == 200


# ------------------------------------------------------------------ many clients


def test_when_no_place_is_left(held, backend: Stoppable) -> None:
    service = held(queue=2)
    sent = content()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(service.post, sent) for _ in range(3)]
        until(lambda: service.service.door.inside == 3)
        reply = service.post(sent)
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert "3 pictures are under way, and this service takes 3" in reply.error
        assert service.get("/healthz").status == 200, "a busy service is well"
        backend.let_go.set()
        assert [one.result(20).status for one in waiting] == [200] * 3
    assert service.service.door.inside == 0
    assert service.post(sent).status == 200


def test_a_picture_that_is_late(held, backend: Stoppable) -> None:
    service = held(timeout_s=0.3)
    reply = service.post(content())
    assert reply.status == 504
    assert "was not restored within" in reply.error
    backend.let_go.set()
    assert service.post(content()).status == 200


def test_a_body_that_does_not_come(held) -> None:
    service = held(timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    until(lambda: service.service.door.inside == 0)


def test_the_picture_of_a_client_that_goes_is_cancelled(held, backend: Stoppable) -> None:
    service = held()
    first = service.begin(content())
    backend.has_begun()
    second = service.begin(content((64, 128)))
    first.close()
    backend.has_begun(64, 128)  # though nothing has let the first one go
    until(lambda: len(service.records) == 1)
    assert (service.records[0].outcome, service.records[0].status) == ("client_gone", 0)
    assert service.service.door.inside == 1
    backend.let_go.set()
    assert second.getresponse().status == 200
    second.close()


def test_a_client_that_goes_in_the_middle_of_its_body(held) -> None:
    service = held()
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(b"POST /restore HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx")
        until(lambda: service.service.door.inside == 1)
    until(lambda: service.service.door.inside == 0)
    until(lambda: [one.outcome for one in service.records] == ["client_gone"])


def test_few_pictures_are_decoded_at_a_time(held, backend: Stoppable) -> None:
    service = held(queue=20)
    tables = service.service.door._tables._value
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(service.post, content()) for _ in range(10)]
        until(lambda: service.service.door.inside == 10)
        until(lambda: service.service.door.waiting == 10 - tables)
        assert len(service.service._restorer._admission._ends) <= tables < 10
        backend.let_go.set()
        assert [one.result(20).status for one in waiting] == [200] * 10


def test_lanes_run_side_by_side() -> None:
    backend = Stoppable(let_go=True, lanes=3)
    with restorer_of(backend) as restorer, served(restorer) as service:
        backend.let_go.clear()
        with ThreadPoolExecutor(12) as pool:
            replies = [pool.submit(service.post, content()) for _ in range(12)]
            # The first one is alone. Three that wait fill the lanes.
            until(lambda: len(restorer._work._turns._waiting) >= 3)
            backend.let_go.set()
            assert [reply.result(20).status for reply in replies] == [200] * 12
        assert not all(turn.is_alone for turn in backend.turns)


def test_requests_under_way_are_answered_at_the_end(held, backend: Stoppable) -> None:
    service = held()
    connection = service.begin(content())
    backend.has_begun()
    service.server.stop()
    until(lambda: refused(service.port))
    assert service.service.door.inside == 1
    backend.let_go.set()
    reply = connection.getresponse()
    assert (reply.status, len(reply.read()) > 100) == (200, True)
    connection.close()


def test_a_client_that_takes_nothing_keeps_little_memory(doubling: Served, monkeypatch) -> None:
    """Its answer is handed over in pieces, and given up when none is taken for a while."""
    import asyncio

    from maxim_deploy.serving.http import answer

    monkeypatch.setattr(answer, "STALL_S", 0.05)
    handed: list[int] = []

    async def send(message) -> None:
        handed.append(len(message.get("body", b"")))
        if len(handed) == 3:
            await asyncio.sleep(20)

    sending = answer.Answer(bytes(10 * 2**20), "PNG", [], {}).send(send)
    with pytest.raises(TimeoutError):
        asyncio.run(sending)
    assert sum(handed) < 2**20


# ------------------------------------------------------------------ probes and metrics


def test_a_service_that_is_well(doubling: Served) -> None:
    reply = doubling.get("/healthz")
    assert (reply.status, reply.body) == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("error", [BackendError("the GPU is gone"), RuntimeError("worse")])
def test_a_dead_network_is_seen(error: Exception) -> None:
    backend = Failing()
    with restorer_of(backend) as restorer, served(restorer) as service:
        backend.error, backend.is_dead = error, True
        assert service.get("/healthz").status == 200, "it has just restored a picture"
        assert service.post(content()).status == 500
        reply = service.get("/healthz")
        assert (reply.status, reply.body) == (503, b'{"status":"failing"}')
        backend.error = None
        assert service.get("/healthz").status == 200, "it works again"


def test_a_network_that_restores_otherwise_is_seen(monkeypatch) -> None:
    monkeypatch.setattr(health, "FRESH_S", 0)
    backend = Failing()
    with restorer_of(backend) as restorer, served(restorer) as service:
        assert service.get("/healthz").status == 200
        monkeypatch.setattr(Failing, "run", lambda self, image: image * 0)
        assert service.get("/healthz").status == 503


def test_a_network_that_hangs_is_busy_and_then_failing(held, backend, monkeypatch) -> None:
    monkeypatch.setattr(health, "FRESH_S", 0)
    monkeypatch.setattr(health, "PATIENCE_S", 0.02)
    monkeypatch.setattr(health, "ALONE_S", 0.2)
    service = held()
    assert service.get("/healthz").body == b'{"status":"busy"}'
    until(lambda: service.get("/healthz").status == 503)
    assert backend.begun.qsize() >= 1
    backend.let_go.set()
    until(lambda: service.get("/healthz").body == b'{"status":"ok"}')


def test_probes_of_a_time_share_one_picture(held, backend: Stoppable, monkeypatch) -> None:
    monkeypatch.setattr(health, "FRESH_S", 0)
    service = held()
    with ThreadPoolExecutor(5) as pool:
        probes = [pool.submit(service.get, "/healthz") for _ in range(5)]
        backend.has_begun()
        assert [probe.result(20).body for probe in probes] == [b'{"status":"busy"}'] * 5
    assert backend.begun.empty()


def test_metrics(held, backend: Stoppable) -> None:
    service = held(queue=0)
    connection = service.begin(content((64, 128)))
    backend.has_begun(64, 128)
    assert service.post(content()).status == 503
    found = samples(service)
    assert found["maxim_requests_total", "busy"] == 1
    assert found["maxim_requests_total", "restored"] == 0
    assert found["maxim_requests_in_progress", None] == 1
    assert found["maxim_requests_waiting", None] == 0
    backend.let_go.set()
    assert connection.getresponse().status == 200
    connection.close()
    found = samples(service)
    assert found["maxim_requests_total", "restored"] == 1
    assert found["maxim_request_seconds_count", None] == 1
    assert found["maxim_network_seconds_count", None] == 1
    assert found["maxim_pixels_total", None] == 64 * 128
    assert found["maxim_requests_in_progress", None] == 0
    if Path("/proc").exists():
        assert found["process_resident_memory_bytes", None] > 10_000_000


def samples(service: Served) -> dict[tuple[str, str | None], float]:
    reply = service.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


def test_nothing_is_left_of_a_service() -> None:
    before = threading.active_count()
    with restorer_of(Doubling()) as restorer, served(restorer) as service:
        assert service.post(content()).status == 200
    assert threading.active_count() == before
