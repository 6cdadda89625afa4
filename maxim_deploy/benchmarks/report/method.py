"""The last section: what was measured how, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maxim_deploy.benchmarks.profile.profile import Profile
from maxim_deploy.benchmarks.report.markup import Markup, element, facts, section
from maxim_deploy.benchmarks.report.panels import Panel


def method(panels: Sequence[Panel], profiles: Sequence[Profile]) -> Markup:
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
    panels: Sequence[Panel], profiles: Sequence[Profile]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Environments that differ in more than the load, with what was measured in each."""
    seen: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    sources: list[tuple[str, Mapping[str, Any]]]
    sources = [(panel.title, panel.first.environment) for panel in panels]
    sources += [(f"blocks of {profile.title}", profile.environment) for profile in profiles]
    for title, environment in sources:
        lasting = {k: v for k, v in environment.items() if k != "load_average_1m"}
        seen.setdefault(repr(lasting), ([], environment))[0].append(title)
    for titles, environment in seen.values():
        yield "; ".join(dict.fromkeys(titles)), environment


def _environment(environment: Mapping[str, Any], title: str) -> Markup:
    pairs: list[tuple[str, object]] = []
    for key, value in environment.items():
        if key == "libraries":
            pairs.append((key, ", ".join(f"{name} {v}" for name, v in value.items())))
        elif key == "ram_bytes" and value:
            pairs.append(("memory", f"{value / 2**30:.1f} GiB"))
        elif isinstance(value, Mapping):
            inside = (f"{k.replace('_', ' ')} {v}" for k, v in value.items() if v is not None)
            pairs.append((key.replace("_", " "), ", ".join(inside)))
        else:
            pairs.append((key.replace("_", " "), value))
    return element("div", element("h3", title), facts(pairs), class_="panel")
