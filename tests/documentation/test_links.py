"""Links: those within lead somewhere, and those to the web are well formed."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from documentation.pages import DOCS, PAGES, ROOT, text_of

_LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")


def targets(name: str) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    bare = re.findall(r"<(https?://[^>]+)>", text)
    return _LINK.findall(re.sub(r"`[^`]*`", "code", text)) + bare


@pytest.mark.parametrize("name", PAGES)
def test_links_within_lead_to_files(name: str) -> None:
    relative = [one.partition("#")[0] for one in targets(name) if "://" not in one]
    missing = [one for one in relative if one and not (PAGES[name].parent / one).exists()]
    assert missing == []


@pytest.mark.parametrize("name", PAGES)
def test_links_to_the_web_are_well_formed(name: str) -> None:
    for target in (one for one in targets(name) if "://" in one):
        parts = urlsplit(target)
        assert parts.scheme in ("https", "http")
        assert "." in parts.netloc or parts.netloc.startswith("localhost:")
        assert not re.search(r"[\s<>\"]", target)


QUESTIONS = (
    "How long does my photo take?", "How much memory does it need?", "Which GPU do I need?",
    "What has run, and where?", "How do I fit it into my program?", "Is it exact?",
    "May I use it?", "What does it send home?",
)  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_a_question_is_answered_in_one_click(name: str, question: str) -> None:
    (row,) = [line for line in text_of(name).splitlines() if line.startswith(f"| {question} |")]
    (first, *_) = _LINK.findall(row)
    assert (PAGES[name].parent / first.partition("#")[0]).is_file()


def test_llms_txt_lists_every_page() -> None:
    listed = re.findall(
        r"^- \[.+?\]\((.+?)\)", (DOCS / "llms.txt").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted(
        path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")
    )


def test_pictures_are_small() -> None:
    pictures = list((DOCS / "images").iterdir())
    assert pictures and all(path.stat().st_size <= 150_000 for path in pictures)


def test_nothing_is_said_of_files_that_are_gone() -> None:
    """Paths in code on a page exist, where they are of this repository."""
    folders = ("docs", "benchmarks", "engines", "export", "maxim_deploy", "integrations", "deploy")
    named = re.compile(rf"`((?:{'|'.join(folders)})/[\w./-]*\w)`")
    gone = {
        f"{name}: {path}"
        for name in PAGES
        for path in named.findall(text_of(name))
        if not (ROOT / path).exists()
    }
    assert gone == set()
