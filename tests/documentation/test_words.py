"""How pages read: short sentences, and guides in plain words."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from documentation.pages import PAGES, ROOT, sentences, text_of

LONGEST = 30
"""Words of a sentence, at most."""

EASIEST = 50.0
"""Flesch's reading ease of a guide, at least: what he calls fairly difficult ends there."""

GUIDES = [name for name in PAGES if "/guides/" in name or name.endswith("start.md")]


@cache
def dictionary() -> Any:
    pyphen = pytest.importorskip("pyphen", reason="pip install 'maxim-deploy[docs]'")
    return pyphen.Pyphen(lang="en_US")


def words(sentence: str) -> list[str]:
    """Words of prose: not numbers, code or names, by which only letters within are capitals."""
    found = re.findall(r"[A-Za-z][A-Za-z'-]*[A-Za-z]|[aI]\b", sentence)
    return [word for word in found if word != "code" and not re.search(r".[A-Z]", word)]


def reading_ease(name: str) -> float:
    """Flesch (1948): 206.835 - 1.015 words per sentence - 84.6 syllables per word."""
    found = [one for one in map(words, sentences(name)) if one]
    every = [word for sentence in found for word in sentence]
    syllables = sum(len(dictionary().positions(word)) + 1 for word in every)
    return 206.835 - 1.015 * len(every) / len(found) - 84.6 * syllables / len(every)


@pytest.mark.parametrize("name", PAGES)
def test_no_sentence_is_long(name: str) -> None:
    long = [one for one in sentences(name) if len(one.split()) > LONGEST]
    assert long == []


@pytest.mark.parametrize("name", GUIDES)
def test_guides_are_easy_to_read(name: str) -> None:
    assert reading_ease(name) >= EASIEST


def test_the_formula_on_a_known_sentence() -> None:
    """Nothing else tells a formula that always passes."""
    assert words("It runs on ONNX Runtime in code, at 8 bits.") == [
        "It", "runs", "on", "Runtime", "in", "at", "bits",
    ]  # fmt: skip
    assert len(dictionary().positions("resolution")) == 3


CRUTCHES = re.compile(
    r"\b(nobody|somebody|anybody|whoever|likewise|the former|the latter)\b", re.IGNORECASE
)
"""Words that make a reader look back or guess who is meant."""

SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("maxim_deploy", "deploy", "integrations", "benchmarks", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".js", ".html", ".md", ".toml", ".yaml", ".sh")
)


@pytest.mark.parametrize("name", PAGES)
def test_no_riddles(name: str) -> None:
    assert CRUTCHES.findall(text_of(name)) == []


def test_no_riddles_in_messages_docstrings_and_comments() -> None:
    assert len(SOURCES) > 400
    found = {name: CRUTCHES.findall((ROOT / name).read_text("utf-8")) for name in SOURCES}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_readme_fits_one_screen_and_a_half() -> None:
    assert len(text_of("README.md").splitlines()) <= 120
