"""Renders the report as one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maxim_deploy._files import write_text
from maxim_deploy._optional import require
from maxim_deploy._version import __version__
from maxim_deploy.benchmarks.profile.profile import LayerProfile
from maxim_deploy.benchmarks.records import Record, line_of
from maxim_deploy.benchmarks.report import overview, sections
from maxim_deploy.benchmarks.report.answers import answers
from maxim_deploy.benchmarks.report.charts import how_drawn
from maxim_deploy.benchmarks.report.environments import environments_of
from maxim_deploy.benchmarks.report.panels import panels_of, short_number
from maxim_deploy.benchmarks.report.pictures import BeforeAfter, data_uri, map_of
from maxim_deploy.benchmarks.report.traffic import traffic_tables
from maxim_deploy.errors import UsageError, printable

NONE = "\u2013"
"""In a cell for which there is no number."""

OPEN_ROWS = 6
"""Longer lists of claims and warnings are folded until asked for."""


def write_report(
    records: Sequence[Record],
    path: Path,
    *,
    profiles: Sequence[LayerProfile] = (),
    parity: Sequence[Mapping[str, Any]] = (),
    pictures: Sequence[BeforeAfter] = (),
) -> None:
    """Write a report as one self-contained HTML file.

    Args:
        records: records of any number of runs. Only records of one run and model are compared.
        path: the HTML file.
        profiles: times by block.
        parity: comparisons from `maxim-parity`, with `a`, `b`, `image`, `max_error_levels`,
            `mean_error_levels`, `p999_error_levels`, `psnr`, `ssim`, `threshold`, `passed` and
            `faults`. Fields may be missing.
        pictures: pictures before and after.

    Raises:
        UsageError: there is nothing to report, or the file cannot be written.
        MissingDependencyError: jinja2 or matplotlib is not installed.
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
    """Return the text of the file; see `write_report`."""
    jinja2 = require("jinja2", "bench")
    panels = panels_of(records)
    # A name read from a file may contain HTML, so everything that is not marked safe is escaped.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        # Markup of ours is of another type.
        finalize=lambda value: printable(value, "\n\t") if type(value) is str else value,
    )
    environment.filters |= {"cell": cell_text, "data_uri": data_uri}
    present = {
        "answers": [found for panel in panels if (found := answers(panel, parity))],
        "summary": panels,
        "speed": sections.speed(panels),
        "load": sections.load(panels),
        "memory": sections.memory(panels),
        "ceiling": sections.ceiling(panels),
        "traffic": traffic_tables(panels, profiles),
        "blocks": [sections.blocks(profile) for profile in profiles],
        "parity": sections.parity(parity),
        "pictures": [(picture, map_of(picture)) for picture in pictures],
        "method": environments_of(panels, profiles),
    }
    text: str = environment.get_template("page.html.j2").render(
        present=present,
        title=", ".join(dict.fromkeys(record.model for record in records)) or "Benchmark report",
        facts=_facts(records, profiles),
        cards=[card for panel in panels if panel.measured for card in overview.cards(panel)],
        claims=[claims for panel in panels if (claims := overview.claims(panel)).rows],
        failed=sum(comparison.get("passed") is False for comparison in parity),
        warnings=overview.warnings(panels),
        how_speed_is_drawn=how_drawn(panel for panel in panels if panel.measured),
        open_rows=OPEN_ROWS,
        records_uri=_uri(records),
        version=__version__,
    )
    return text


def cell_text(value: object) -> object:
    """Format a float with about three digits and None as a dash; other values stay unchanged."""
    if isinstance(value, float):
        return short_number(value)
    return NONE if value is None else value


def _facts(records: Sequence[Record], profiles: Sequence[LayerProfile]) -> list[str]:
    """Return machines and dates for the top of the page."""
    profiled = [profile.created for profile in profiles]
    dates = sorted(created[:10] for created in [r.created for r in records] + profiled)
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else None
    machines = dict.fromkeys(panel.machine for panel in panels_of(records))
    made = f"report of {datetime.now(UTC):%Y-%m-%d}"
    return [*machines, *([f"measured {when}"] if when else []), made]


def _uri(records: Iterable[Record]) -> str | None:
    text = "".join(line_of(record) + "\n" for record in records)
    if not text:
        return None
    return f"data:application/jsonl;base64,{base64.b64encode(text.encode()).decode()}"
