"""Describes the machines that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.report.panels import Panel

_WORDS = {
    "cpu": "processor",
    "cpus": "processors",
    "gpu": "GPU",
    "ram_bytes": "memory",
    "os": "system",
    "python": "Python",
    "busy": "in use before",
    "load_average_1m": "load before",
}
_OF_THE_MOMENT = ("busy", "load_average_1m")


def environments_of(
    panels: Sequence[Panel], profiles: Sequence[LayerProfile]
) -> list[tuple[str, dict[str, Any]]]:
    """Group records by environment; environments that differ only in load are one."""
    found: dict[str, tuple[dict[str, None], Mapping[str, Any]]] = {}
    sources = [
        *((panel.title, panel.first.environment) for panel in panels),
        *((f"blocks of {profile.title}", profile.environment) for profile in profiles),
    ]
    for title, environment in sources:
        lasting = {k: v for k, v in environment.items() if k not in _OF_THE_MOMENT}
        found.setdefault(repr(lasting), ({}, environment))[0][title] = None
    return [("; ".join(titles), _in_words(environment)) for titles, environment in found.values()]


def _in_words(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _WORDS.get(key, key.replace("_", " ")): _value(key, value)
        for key, value in environment.items()
    }


def _value(key: str, value: object) -> object:
    """Format a value of the environment."""
    if key == "ram_bytes" and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    if key == "busy" and isinstance(value, float):
        return f"{value:.0%}"
    if key == "commit" and value:
        digits, *dirty = str(value).split("-")
        return "-".join([digits[:12], *dirty])
    if isinstance(value, Mapping):
        known = ((name.replace("_", " "), one) for name, one in value.items() if one is not None)
        return ", ".join(f"{name} {one}" for name, one in known)
    return value
