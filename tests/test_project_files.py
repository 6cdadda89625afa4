"""Promises of the files for contributors: what they name exists, and versions agree."""

from __future__ import annotations

import importlib
import re
import tomllib
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml
from releasing import release_check

import maxim_deploy
from maxim_deploy.accept import record as acceptance
from maxim_deploy.benchmarks import records
from maxim_deploy.checkpoints import safetensors_file
from maxim_deploy.graph.precision import table
from maxim_deploy.spec import export_record, manifest

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "COMPATIBILITY.md", "RELEASING.md", "SECURITY.md", "CHANGELOG.md")
ON_PAGES = pytest.mark.parametrize("page", PAGES)

# Capitals stand for a name of the reader's choice; the rest is made by commands.
PLACEHOLDERS = re.compile(r"\b(NAME_backend|HOST)\.py$")
NOT_IN_A_CLONE = ("dist/", ".maxim-run.jsonl", "manifest.json", "export.json", "source.safetensors")

QUOTED = re.compile(r"`([\w.-]+(?:/[\w.-]+)+/?|[\w.-]+\.(?:md|txt|toml|cff|py))`")
"""Paths with a folder, and names of files with the usual endings."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@ON_PAGES
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    quoted = re.findall(
        r"`([\w.-]+(?:/[\w.-]+)+/?|[\w.-]+\.(?:md|txt|toml|cff|py))`", text_of(page)
    )
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", text_of(page))
    named = [name for name in (*quoted, *linked) if name not in NOT_IN_A_CLONE]
    assert named or page == "SECURITY.md"
    missing = [name for name in named if not (PLACEHOLDERS.search(name) or (ROOT / name).exists())]
    assert missing == []


@ON_PAGES
def test_every_table_that_a_page_names_is_in_its_module(page: str) -> None:
    flat = " ".join(text_of(page).split())
    found = re.findall(r"`(\w+)` in `(maxim_deploy/[\w/]+)\.py`", flat)
    for name, module in found:
        assert hasattr(importlib.import_module(module.replace("/", ".")), name), (name, module)
    if page == "CONTRIBUTING.md":
        tables = {"BACKENDS", "Rewrites", "FORMS", "PRECISIONS", "HOSTS"}
        assert tables <= {name for name, _ in found}


@ON_PAGES
def test_every_make_target_that_a_page_names_is_in_the_makefile(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:`|^ {4})make ([\w-]+)", text_of(page), re.MULTILINE)
    assert set(named) <= targets


def test_the_changelog_begins_with_this_version() -> None:
    assert release_check.first(r"^## ([\d.]+\w*),", ROOT / "CHANGELOG.md") == (
        maxim_deploy.__version__
    )


def test_the_citation_is_whole_and_cites_the_paper() -> None:
    citation: dict[str, Any] = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["version"] == maxim_deploy.__version__
    assert {"cff-version", "message", "title", "authors", "license"} <= citation.keys()
    paper = citation["preferred-citation"]
    assert paper["title"] == "MAXIM: Multi-Axis MLP for Image Processing"
    assert "2201.02973" in paper["url"] and len(paper["authors"]) == 7


def test_the_hooks_are_the_linters_of_make_lint() -> None:
    config = yaml.safe_load(text_of(".pre-commit-config.yaml"))
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    _, _, lint = text_of("Makefile").partition("\nlint: install\n")
    tools = re.findall(r"^\t\$\(BIN\)/([\w-]+)", lint.partition("\n\n")[0], re.MULTILINE)
    assert {Path(entry.split()[0]).name for entry in hooks} == set(tools)


FORMATS = {
    "`manifest.json`": manifest.FORMAT,
    "`export.json`": export_record.FORMAT,
    "precision table": table.FORMAT,
    "`source.safetensors`": safetensors_file.FORMAT,
    "records of `maxim-bench`": records.SCHEMA,
    "record of `maxim-deploy accept`": acceptance.FORMAT,
}


def test_the_table_of_formats_has_the_numbers_of_the_code() -> None:
    _, _, rest = text_of("COMPATIBILITY.md").partition("|---|---|---|---|\n")
    rows = [line.split("|")[1:-1] for line in rest.partition("\n\n")[0].splitlines()]
    numbers = {row[0].strip(): row[2].strip() for row in rows}
    for begin, number in FORMATS.items():
        (written,) = [value for name, value in numbers.items() if name.startswith(begin)]
        assert written == str(number), begin
    assert sum(bool(written) for written in numbers.values()) == len(FORMATS)


# ------------------------------------------------------------------ the release check


def metadata(**changes: str) -> Message:
    message = Message()
    fields = {
        "Name": "maxim-deploy",
        "Version": "1.0",
        "Summary": "short",
        "License-Expression": "Apache-2.0",
        "Requires-Python": ">=3.11",
        "Description-Content-Type": "text/markdown",
    }
    for field, value in (fields | changes).items():
        message[field.replace("_", "-")] = value
    message.set_payload("# maxim-deploy\n")
    return message


def test_the_release_check_refuses_metadata_that_an_index_would_refuse() -> None:
    assert list(release_check.metadata_problems(metadata())) == []
    (problem,) = release_check.metadata_problems(metadata(Name="maxim"))
    assert problem == "the metadata names maxim | expected maxim-deploy"
    (problem,) = release_check.metadata_problems(metadata(Summary="UNKNOWN"))
    assert problem == "the metadata has no Summary | set it in pyproject.toml"
    direct = metadata(Requires_Dist="numpy @ https://example.org/numpy.whl")
    (problem,) = release_check.metadata_problems(direct)
    assert "is a direct URL, which an index refuses" in problem


def test_the_release_check_finds_folders_of_this_machine() -> None:
    contents = {"a.py": b"x = 1", "b.py": f"x = '{ROOT}/export'".encode()}
    (problem,) = release_check.local_paths(contents)
    assert problem == f"b.py names the folder {ROOT} | remove it"


def test_the_release_check_compares_every_version() -> None:
    version = maxim_deploy.__version__
    wheel, sdist = f"maxim_deploy-{version}-py3-none-any.whl", f"maxim_deploy-{version}.tar.gz"
    assert list(release_check.versions_differ(Path(wheel), Path(sdist))) == []
    problems = list(release_check.versions_differ(Path(wheel.replace(version, "9.9")), Path(sdist)))
    spandrel = "integrations/maxim-spandrel/pyproject.toml"
    assert [problem.split()[0] for problem in problems] == [
        sdist, "CHANGELOG.md", "CITATION.cff", spandrel,
    ]  # fmt: skip
    assert f"has version {version} | the wheel has 9.9" in problems[-1]
    assert tomllib.loads(text_of(spandrel))["project"]["version"] == version
