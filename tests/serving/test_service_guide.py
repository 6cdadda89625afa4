"""docs/guides/service.md says what the service does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from runtime.fakes import Doubling, restorer_of

pytest.importorskip("starlette", reason="pip install 'maxim-deploy[serve]'")

from serving.http_services import served

from maxim_deploy.cli.serve import serve
from maxim_deploy.serving.http.formats import NAMES
from maxim_deploy.serving.http.limits import Limits
from maxim_deploy.serving.http.refusals import Outcome
from maxim_deploy.spec.quantities import bytes_from, seconds_from

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "service.md"
TEXT = GUIDE.read_text("utf-8")


def table(first_cell: str) -> dict[str, list[str]]:
    """The rows of the table with this heading, by their first cell."""
    _, _, rest = TEXT.partition(f"| {first_cell} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows]
    return {first.strip("`"): others for first, *others in cells}


def test_options_and_their_defaults() -> None:
    options = {name: option for option in serve.params for name in option.opts}
    assert set(re.findall(r"`(--[a-z-]+)", TEXT)) <= set(options)
    rows, ours = table("option"), Limits()
    assert bytes_from(rows["--max-bytes"][0], "") == ours.most_bytes
    assert int(rows["--max-pixels"][0].replace(",", "")) == ours.most_pixels
    assert seconds_from(rows["--timeout"][0], "") == ours.timeout_s
    assert int(rows["--queue"][0]) == ours.queue
    for name in ("--max-bytes", "--timeout"):
        assert options[name].default == rows[name][0]
    assert options["--max-pixels"].default == ours.most_pixels
    assert options["--queue"].default == ours.queue


def test_statuses() -> None:
    """Each is in the code, and each of the code is here."""
    folder = Path(__file__).parents[2] / "maxim_deploy" / "serving" / "http"
    code = "\n".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    used = re.findall(r"(?:Refusal|refused_with)\(\s*(\d+)", code)
    assert set(table("status")) == set(used)


def test_formats_and_metrics() -> None:
    named = re.search(r"The formats are (.*)\.", TEXT)
    assert named and set(re.findall(r"`(\w+)`", named[1])) <= set(NAMES)
    rows = table("metric")
    outcomes = rows["maxim_requests_total{outcome}"][0]
    assert tuple(re.findall(r"`(\w+)`", outcomes)) == get_args(Outcome)
    with restorer_of(Doubling()) as restorer, served(restorer) as service:
        exposed = service.get("/metrics").body.decode()
    for name in rows:
        assert f"\n{name.partition('{')[0]}" in f"\n{exposed}", name
    ours = set(re.findall(r"^# TYPE (maxim_\w+) (?:counter|gauge|histogram)", exposed, re.M))
    ours = {name for name in ours if not name.endswith("_created")}
    documented = {name.partition("{")[0] for name in rows}
    assert ours - {"maxim_info"} <= documented
