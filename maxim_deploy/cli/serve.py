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
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 for all IPv4 addresses.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 for any free port, which stdout names.",
)
@loading_options
@click.option(
    "--max-bytes",
    default="64MiB",
    show_default=True,
    metavar="SIZE",
    help="Most bytes of a request's file.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=50_000_000,
    show_default=True,
    help="Most pixels of a picture.",
)
@click.option(
    "--timeout",
    default="5m",
    show_default=True,
    metavar="TIME",
    help="Most time from a request's arrival to its restored picture.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Requests that may wait beside the running ones; further requests get status 503.",
)
@click.option(
    "--warmup",
    type=Size(),
    multiple=True,
    metavar="HxW",
    help="Warm up with this size, and choose the lanes for it; repeatable.",
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
    """Restore pictures over HTTP with the network in BUNDLE.

    POST a picture to /restore. The answer is the restored picture as PNG, or in the format of
    ?format=jpeg or the header Accept. GET /healthz restores a small picture, /metrics is for
    Prometheus, and / describes the service.

    Prints the address once the service accepts pictures. After SIGTERM, SIGHUP or Ctrl-C it refuses
    new requests and answers the current ones; the exit code is then 0. A second signal stops it
    immediately.
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
