"""The report: one HTML file with everything in it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from maxim_deploy._files import write_text
from maxim_deploy._version import __version__
from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.records import Record, line_of
from maxim_deploy.benchmarks.report import method, overview, sections
from maxim_deploy.benchmarks.report.markup import Markup, element, together
from maxim_deploy.benchmarks.report.panels import panels_of
from maxim_deploy.benchmarks.report.pictures import BeforeAfter
from maxim_deploy.errors import UsageError

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What the browser may load: nothing that is not in the page."""

_HEAD = Markup("<!DOCTYPE html>\n")


def write_report(
    records: Sequence[Record],
    path: Path,
    *,
    profiles: Sequence[LayerProfile] = (),
    parity: Sequence[Mapping[str, Any]] = (),
    pictures: Sequence[BeforeAfter] = (),
) -> None:
    """Write a report as one HTML file that needs no network.

    Args:
        records: of any number of runs; only those of one run and model are compared.
        path: the file.
        profiles: where the time goes.
        parity: comparisons, as `maxim-parity` writes them: `a`, `b`, `image`, `max_error_levels`,
            `mean_error_levels`, `p999_error_levels`, `psnr`, `ssim`, `threshold`, `passed`,
            `faults`; any of
            them may be missing.
        pictures: before and after.

    Raises:
        UsageError: there is nothing to report, or the file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    if not (records or profiles or parity or pictures):
        raise UsageError("there is nothing to report: no records, profiles, parity or pictures")
    text = page(records, profiles=profiles, parity=parity, pictures=pictures)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"cannot write the report to {str(path)!r}: {error}") from error


def page(
    records: Sequence[Record],
    *,
    profiles: Sequence[LayerProfile] = (),
    parity: Sequence[Mapping[str, Any]] = (),
    pictures: Sequence[BeforeAfter] = (),
) -> str:
    """The text of the file; see `write_report`."""
    panels = panels_of(records)
    made = {
        "Summary": overview.summary(panels),
        "Speed": sections.speed(panels),
        "Load": sections.load(panels),
        "Memory": sections.memory(panels),
        "Ceiling": sections.ceiling(panels),
        "Blocks": sections.blocks(profiles),
        "Parity": sections.parity(parity),
        "Pictures": sections.pictures(pictures),
        "Method": method.method(panels, profiles),
    }
    present = {name: part for name, part in made.items() if part is not None}
    body = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        _header(records, profiles, present),
        element("main", *present.values(), _raw(records), id="content"),
        element("footer", f"maxim-deploy {__version__}. This file is complete: it loads nothing."),
        element("script", Markup(_resource("script.js"))),
    )
    return together(_HEAD, element("html", _head(records), body, lang="en"), "\n")


def _head(records: Sequence[Record]) -> Markup:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{_title(records)}: benchmark report"),
        element("style", Markup(_resource("style.css"))),
    )


def _header(
    records: Sequence[Record], profiles: Sequence[LayerProfile], present: Mapping[str, Markup]
) -> Markup:
    profiled = [profile.created for profile in profiles]
    dates = sorted(created[:10] for created in [r.created for r in records] + profiled)
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else None
    machines = dict.fromkeys(panel.machine for panel in panels_of(records))
    made = datetime.now(UTC).strftime("%Y-%m-%d")
    facts = [*machines, when and f"measured {when}", f"report of {made}"]
    return element(
        "header",
        element("p", "maxim-deploy", class_="brand"),
        element("h1", _title(records)),
        element("p", *(element("span", fact) for fact in facts if fact), class_="facts"),
        element(
            "nav",
            *(element("a", name, href=f"#{_anchor(part)}") for name, part in present.items()),
            aria_label="Sections",
        ),
    )


def _title(records: Sequence[Record]) -> str:
    models = list(dict.fromkeys(record.model for record in records))
    return ", ".join(models) if models else "Benchmark report"


def _anchor(part: Markup) -> str:
    return part.split('id="', 2)[1].split('"')[0]


def _raw(records: Iterable[Record]) -> Markup | None:
    text = "".join(line_of(record) + "\n" for record in records)
    if not text:
        return None
    uri = f"data:application/jsonl;base64,{base64.b64encode(text.encode()).decode()}"
    link = element("a", "Download the records", href=uri, download="records.jsonl", class_="button")
    return element("p", link, " as JSON lines, to plot or to check them yourself.", class_="raw")


def _resource(name: str) -> str:
    return files("maxim_deploy.benchmarks.report").joinpath(name).read_text("utf-8")
