"""`maxim-deploy serve`: a small HTTP service for one bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from maxim_deploy.cli import shell
from maxim_deploy.cli._loading_options import loading_options
from maxim_deploy.cli._signals import cancelled_by_signals
from maxim_deploy.cli._values import Size
from maxim_deploy.spec.quantities import bytes_from, seconds_from


@click.command("maxim-deploy serve")
@click.argument("bundle", type=shell.PATH)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; 0.0.0.0 is all of IPv4."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 takes any that is free; stdout has it.",
)
@loading_options
@click.option(
    "--max-bytes",
    default="64MiB",
    show_default=True,
    metavar="SIZE",
    help="Of a file that is sent.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=50_000_000,
    show_default=True,
    help="Of a picture.",
)
@click.option(
    "--timeout",
    default="5m",
    show_default=True,
    metavar="TIME",
    help="From a request's arrival to its restored picture.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Requests under way beside those that run; one more is answered with 503.",
)
@click.option(
    "--warmup",
    type=Size(),
    multiple=True,
    metavar="HxW",
    help="Run on this size first, and choose the lanes for it; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per request on stdout.")
@shell.common_options
def serve(
    bundle: Path,
    host: str,
    port: int,
    max_bytes: str,
    max_pixels: int,
    timeout: str,
    queue: int,
    warmup: tuple[tuple[int, int], ...],
    as_json: bool,
    **load_options: Any,
) -> None:
    """Restore pictures that are sent over HTTP with the network in BUNDLE.

    POST a picture to /restore, and the answer is the restored one: PNG, or what ?format=jpeg or the
    header Accept asks for. GET /healthz restores a small picture, /metrics is for Prometheus, and /
    describes the service.

    Prints the address once pictures are taken. SIGTERM, SIGHUP and Ctrl-C refuse new requests and
    answer those under way; the exit code is then 0. A second one stops at once.
    """
    from maxim_deploy import runtime
    from maxim_deploy.cli._serve_report import STOPPING, Ending, Report
    from maxim_deploy.serving.http.application import application_of
    from maxim_deploy.serving.http.limits import Limits
    from maxim_deploy.serving.http.server import Server, bound_socket, url_of
    from maxim_deploy.serving.http.service import Service

    limits = Limits(
        bytes_from(max_bytes, "--max-bytes"), max_pixels, seconds_from(timeout, "--timeout"), queue
    )
    load_options = {name: value for name, value in load_options.items() if value is not None}
    report = Report(as_json)
    with bound_socket(host, port) as listener, runtime.load(bundle, **load_options) as restorer:
        restorer.warmup(warmup)
        service = Service(restorer, limits, report.request)
        service.health.prepare()
        server = Server(application_of(service), limits.timeout_s)
        listener.listen()
        report.listening(url_of(host, listener.getsockname()[1]), str(restorer.info))
        try:
            ending = Ending(server.stop)
            with cancelled_by_signals(ending, lambda: True, shell.say, STOPPING):
                server.run(sockets=[listener])
        finally:
            service.close()
    report.stopped()
