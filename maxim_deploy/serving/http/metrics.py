"""What Prometheus reads."""

from __future__ import annotations

from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from maxim_deploy._version import __version__
from maxim_deploy.runtime import RestorerInfo
from maxim_deploy.serving.http.door import Door
from maxim_deploy.serving.http.record import Record
from maxim_deploy.serving.http.refusals import Outcome

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
"""Seconds. From a small picture on a GPU to a photograph on a CPU."""


class Metrics:
    """The numbers of one service, in a registry of their own.

    Args:
        info: what the service runs.
        door: how full it is.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, info: RestorerInfo, door: Door) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "maxim_requests", "Requests by how they ended.", ["outcome"], registry=registry
        )
        for outcome in get_args(Outcome):  # so that a rate begins at 0
            self._requests.labels(outcome)
        self._seconds = Histogram(
            "maxim_request_seconds",
            "From arrival to the end of the answer, of restored pictures.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._network = Histogram(
            "maxim_network_seconds",
            "In the network and waiting for it, of restored pictures.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._pixels = Counter("maxim_pixels", "Pixels restored.", registry=registry)
        gauges = {
            "maxim_requests_in_progress": ("Requests under way.", lambda: door.inside),
            "maxim_requests_waiting": (
                "Of them, those that are being read or wait to be decoded.",
                lambda: door.waiting,
            ),
        }
        for name, (text, value) in gauges.items():
            Gauge(name, text, registry=registry).set_function(value)
        about = {
            "version": __version__,
            "model": info.model.name,
            "backend": info.backend,
            "precision": info.precision,
            "device": info.device,
        }
        Info("maxim", "What runs.", registry=registry).info(about)
        # Memory, processor time, open files: where there is a /proc.
        ProcessCollector(registry=registry)

    def count(self, record: Record) -> None:
        """A request has ended."""
        self._requests.labels(record.outcome).inc()
        if record.outcome == "restored" and record.height and record.width:
            self._seconds.observe(record.seconds)
            self._network.observe(record.times["network"])
            self._pixels.inc(record.height * record.width)

    def text(self) -> bytes:
        """All of them in Prometheus's format of text."""
        return generate_latest(self._registry)
