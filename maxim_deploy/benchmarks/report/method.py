"""The last section: what was measured how, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.report.markup import Markup, element, facts, section
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


def method(panels: Sequence[Panel], profiles: Sequence[LayerProfile]) -> Markup:
    """What was measured how, and where."""
    words = element(
        "ul",
        element("li", element("b", "Network alone: "), "one call, its input where it reads it."),
        element("li", element("b", "With transfers: "), "from an array in host memory to another; "
                "on a CPU this is the same."),
        element("li", element("b", "Whole image path: "), "from an 8-bit picture of any size to "
                "another, padding and cropping included."),
        element("li", "Subjects have a process each and are timed in turn, every second round in "
                "reverse order, after a warm-up until two windows agree. Before that their "
                "results are compared: those that differ are not timed."),
        element("li", "Times are comparable within a run only."),
    )  # fmt: skip
    machines = [_environment(found, title) for title, found in _machines(panels, profiles)]
    return section("method", "Method and environment", None, words, *machines)


def _machines(
    panels: Sequence[Panel], profiles: Sequence[LayerProfile]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Environments that differ in more than the load, with what was measured in each."""
    seen: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    sources: list[tuple[str, Mapping[str, Any]]]
    sources = [(panel.title, panel.first.environment) for panel in panels]
    sources += [(f"blocks of {profile.title}", profile.environment) for profile in profiles]
    for title, environment in sources:
        lasting = {k: v for k, v in environment.items() if k not in _OF_THE_MOMENT}
        seen.setdefault(repr(lasting), ([], environment))[0].append(title)
    for titles, environment in seen.values():
        yield "; ".join(dict.fromkeys(titles)), environment


def _environment(environment: Mapping[str, Any], title: str) -> Markup:
    pairs = [(_WORDS.get(key, key.replace("_", " ")), _value(key, value))
             for key, value in environment.items()]  # fmt: skip
    return element("div", element("h3", title), facts(pairs), class_="panel")


def _value(key: str, value: object) -> object:
    """A fact of the environment in words."""
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
