"""The pages of the documentation, their code and their prose, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

import maxim_deploy

ROOT = Path(maxim_deploy.__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_GENERATED = re.compile(r"<!-- generated: .+?<!-- end -->", re.DOTALL)


def text_of(name: str) -> str:
    return PAGES[name].read_text("utf-8")


def blocks(name: str, *languages: str) -> list[str]:
    """The code of a page in these languages."""
    return [code for language, code in _FENCE.findall(text_of(name)) if language in languages]


def with_blocks(*languages: str) -> list[str]:
    """The pages that have code in these languages."""
    return [name for name in PAGES if blocks(name, *languages)]


def commands(name: str, *languages: str) -> list[str]:
    """Lines of a page's shell blocks that call us, without what the shell does with them."""
    lines = "\n".join(blocks(name, *languages)).splitlines()
    ours = [re.split(r"\s(?:#|>|\||&)", line)[0].strip() for line in lines]
    return [line for line in ours if re.match(r"maxim-\w+\b", line)]


def paragraphs(name: str) -> list[str]:
    """The prose of a page that people wrote: no headings, code, tables, pictures or comments."""
    text = _GENERATED.sub("", _FENCE.sub("", text_of(name)))
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n", text, flags=re.MULTILINE)  # each item by itself
    found = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text)]
    return [one for one in found if one and one[0] not in "#|" and not one.startswith(":::")]


def sentences(name: str) -> list[str]:
    """The sentences of that prose; code in them is one word, "code"."""
    found = []
    for paragraph in paragraphs(name):
        plain = re.sub(r"`[^`]*`", "code", paragraph).replace("*", "")
        found += re.split(r"(?<=[.?!:])\s+(?=[A-Z0-9c\"(])", plain)
    return [one for one in found if re.search(r"\w", one)]
