"""Markdown tables, and what docstrings say of attributes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

_ENTRY = re.compile(r"^ {4}(\w+): (.+?)(?=^ {4}\w|\Z)", re.MULTILINE | re.DOTALL)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: str = "") -> str:
    """A Markdown table; `right` has an `r` for each column of numbers."""
    marks = ["---:" if right[i : i + 1] == "r" else "---" for i in range(len(heads))]
    lines = [heads, marks, *([cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """A value as it may stand in a cell."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def attributes_of(one: type) -> dict[str, str]:
    """What the docstring of a class says of each attribute, in one line each."""
    text = inspect.getdoc(one) or ""
    _, _, section = text.partition("Attributes:\n")
    section = re.split(r"^\S", section, maxsplit=1, flags=re.MULTILINE)[0]
    return {name: " ".join(said.split()) for name, said in _ENTRY.findall(section)}


def angled(text: str) -> str:
    """Text in which `<precision>` outside of code is not taken for HTML."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else part.replace("<", "&lt;").replace(">", "&gt;")
        for part in parts
    )
