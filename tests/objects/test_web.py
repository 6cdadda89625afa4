"""Pictures from web servers: names, signed URLs, and answers that are none."""

from __future__ import annotations

import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme
from cli.running import child, maxim_run
from inverter import Inverter, level
from objects.stores import Bucket, encoded, send, web_server

SIGNED = "?X-Amz-Credential=AKIAX%2F20260101&X-Amz-Signature=do-not-show"


@pytest.fixture(autouse=True)
def here(folder: Path, environment: None) -> Path:
    return folder


def pictures(handler: BaseHTTPRequestHandler) -> None:
    send(handler, encoded(10), ETag='"one"')


def test_a_picture_becomes_a_file_and_an_object(network: Inverter, bucket: Bucket):
    with web_server(pictures) as url:
        result = maxim_run(f"{url}/x/my%20photo.png", "-o", "out")
        assert (result.exit_code, result.stdout) == (0, "out/my photo.png\n"), result.stderr
        assert level("out/my photo.png") == 245
        assert maxim_run(f"{url}/a.png", "-o", f"{bucket.url}/a.webp").exit_code == 0
    assert bucket.get("a.webp")[8:12] == b"WEBP"


def test_over_https(here: Path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path("authority.pem")
    with web_server(pictures, context) as url:
        refused = child("", f"{url}/a.png", "-o", "out")
        assert refused.returncode == 1 and "certificate is not valid" in refused.stderr
        trusting = "pass"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(here / "authority.pem"))
            done = child(trusting, f"{url}/a.png", "-o", "out")
    assert (done.returncode, done.stdout) == (0, "out/a.png\n"), done.stderr


def test_a_signed_url_is_used_as_it_is_and_not_shown(network: Inverter):
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        # As S3 answers for a URL that is signed for GET.
        if handler.command == "HEAD":
            send(handler, b"", 403)
        else:
            pictures(handler)

    with web_server(answer) as url:
        signed = f"{url.replace('//', '//user:word@')}/b/a.png{SIGNED}"
        result = maxim_run(signed, "-o", "out", "--resume", "-vv", "--json")
        assert result.exit_code == 0, result.stderr
        again = maxim_run(signed, "-o", "out", "--resume", "-vv", "--json")
    assert '"finished"' in again.stdout
    assert set(asked) == {f"/b/a.png{SIGNED}"}
    kept = [path.read_text() for path in Path("out").glob(".maxim-run*")]
    for said in (result.stdout, result.stderr, again.stderr, *kept):
        assert "Signature" not in said and "AKIAX" not in said and "word" not in said
    assert f"{url}/b/a.png" in kept[0]


@pytest.mark.parametrize(
    ("status", "why"),
    [(404, "there is no such object"), (403, "access is denied"), (500, "the server answers 500")],
)
def test_answers_that_are_no_picture(network: Inverter, status: int, why: str):
    with web_server(lambda handler: send(handler, b"no", status)) as url:
        result = maxim_run(f"{url}/a.png{SIGNED}", "-o", "out", "-vv")
    assert result.exit_code == 1 and f"'{url}/a.png' | cannot be read: {why}" in result.stderr
    assert "Signature" not in result.stderr


def test_an_answer_that_ends_early(network: Inverter):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(encoded(10)[:50])
        handler.close_connection = True

    with web_server(answer) as url:
        result = maxim_run(f"{url}/a.png", "-o", "out")
    assert result.exit_code == 1 and "the connection broke before the end" in result.stderr


def test_a_page_is_no_folder(network: Inverter):
    with web_server(lambda handler: send(handler, b"<!doctype html><a href='a.png'>")) as url:
        result = maxim_run(f"{url}/photos/", "-o", "out")
        assert result.exit_code == 1 and "names no file | name one object" in result.stderr
        result = maxim_run(f"{url}/photos.png", "-o", "out")
        assert result.exit_code == 1 and "a web page" in result.stderr


def test_a_server_without_versions_is_asked_again(network: Inverter):
    with web_server(lambda handler: send(handler, encoded(10))) as url:
        for _ in range(2):
            result = maxim_run(f"{url}/a.png", "-o", "out", "--resume")
            assert "1 restored" in result.stderr


def test_urls_that_differ_in_their_query_are_two(network: Inverter):
    with web_server(pictures) as url:
        result = maxim_run(f"{url}/a.png?id=1", f"{url}/a.png?id=2", "-o", "out")
    assert result.exit_code == 1 and result.stderr.count("is claimed by") == 2
    assert "id=" not in result.stderr and network.calls == []
