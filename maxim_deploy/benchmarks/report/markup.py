"""HTML from values: text is escaped unless it is `Markup` already, and nothing can be forgotten.

A name from a file, such as that of a picture, may contain anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_VOID = frozenset({"img", "input", "link", "meta"})


class Markup(str):
    """A piece of HTML that is safe as it is."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """A value as text, for a place between tags or in an attribute; `Markup` stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def together(*parts: object) -> Markup:
    """Parts one after the other; None is left out."""
    return Markup("".join(escaped(part) for part in parts if part is not None))


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """`<name attributes>children</name>`.

    Args:
        name: of the tag.
        children: text or markup; None is left out.
        attributes: `class_` stands for `class`, `aria_label` for `aria-label`. True is an attribute
            without a value; None and False are left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(attribute if value is True else f'{attribute}="{escaped(value)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if name in _VOID else f"{opening}{together(*children)}</{name}>")


def table(
    caption: str, heads: Sequence[object], rows: Iterable[Sequence[object]], *, words: int = 1
) -> Markup:
    """A table in a box of its own, in which it scrolls sideways if it is wider than the page.

    Args:
        caption: what is in it; also the name of the box, which the keyboard can scroll.
        heads: of the columns.
        rows: their cells; the first one names the row.
        words: so many columns, from the left, are text; the others are numbers.
    """

    def cell(tag: str, column: int, value: object, **attributes: object) -> Markup:
        return element(tag, value, class_=None if column < words else "number", **attributes)

    head = [cell("th", k, value, scope="col") for k, value in enumerate(heads)]
    body = [
        element(
            "tr",
            cell("th", 0, row[0], scope="row"),
            *(cell("td", k, value) for k, value in enumerate(row[1:], start=1)),
        )
        for row in rows
    ]
    inside = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    return element("div", inside, class_="scroll", role="region", aria_label=caption, tabindex="0")


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """A list of names with their values; a value that is None or empty is left out."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value))
            for name, value in pairs
            if value not in (None, "")
        ),
    )


def section(name: str, title: str, lead: str | None, *parts: object) -> Markup:
    """A section with an anchor; `lead` is a sentence on how to read it."""
    words = element("p", lead, class_="lead") if lead else None
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, words, *parts, id=name, aria_labelledby=f"{name}-title")


def folded(title: str, content: Markup) -> Markup:
    """Content that is shown when asked for."""
    return element("details", element("summary", title), content)


def short_number(value: float) -> str:
    """With about three digits."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
