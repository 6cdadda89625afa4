"""Small charts as SVG, for light and dark screens."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

STYLE = """\
<style>
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.paper { fill: #ffffff } .quiet { fill: #59636e; font-size: 12px } .head { font-weight: 600 }
.bar { fill: #0969da } .other { fill: #8c959f } .box { fill: #ddf4ff; stroke: #0969da }
.line { stroke: #59636e; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .paper { fill: #161b22 } .quiet { fill: #9198a1 }
.bar { fill: #4493f8 } .other { fill: #656c76 } .box { fill: #121d2f; stroke: #4493f8 }
.line { stroke: #9198a1 }
}
</style>"""

WIDTH, ROW, MARGIN = 480, 46, 16
"""Pixels. Narrow, so that words are still legible on a phone: a row is a line and a bar below."""

Bar = tuple[str, float, str, bool]
"""What it is, its value, the value in words, and whether it is ours."""


def drawing(title: str, height: int, body: Sequence[str]) -> str:
    """A whole SVG file."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
            STYLE,
            f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>',
            *body,
            "</svg>\n",
        ]
    )


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def bars(title: str, note: str, rows: Sequence[Bar]) -> str:
    """A chart of horizontal bars from zero."""
    most = max(value for _, value, _, _ in rows)
    room = WIDTH - 2 * MARGIN
    body = [words(MARGIN, 28, title, "head")]
    for number, (label, value, said, is_ours) in enumerate(rows):
        y = 56 + number * ROW
        kind, length = "bar" if is_ours else "other", max(room * value / most, 1)
        body += [
            words(MARGIN, y, label),
            words(WIDTH - MARGIN, y, said, anchor="end"),
            f'<rect class="{kind}" x="{MARGIN}" y="{y + 7}" width="{length:.1f}" height="14" '
            'rx="3"/>',
        ]
    y = 56 + len(rows) * ROW
    for line in textwrap.wrap(note.replace("`", ""), 66, break_on_hyphens=False):
        body.append(words(MARGIN, y, line, "quiet"))
        y += 17
    return drawing(title, y, body)
