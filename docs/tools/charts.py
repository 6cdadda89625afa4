"""Small charts as SVG, for light and dark screens."""

from __future__ import annotations

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

WIDTH, ROW, LABELS, MARGIN = 720, 30, 250, 16
"""Pixels: the picture's width, a bar's row, the column of labels, and the margin."""

Bar = tuple[str, float, str, bool]
"""What it is, its value, the value in words, and whether it is ours."""


def drawing(title: str, height: int, body: Sequence[str]) -> str:
    """A whole SVG file."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'role="img" aria-label="{escape(title)}">',
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
    room = WIDTH - LABELS - 2 * MARGIN - 110  # for the value in words behind the longest bar
    body = [words(MARGIN, 28, title, "head")]
    for number, (label, value, said, is_ours) in enumerate(rows):
        y = 46 + number * ROW
        length = max(room * value / most, 1)
        kind = "bar" if is_ours else "other"
        body += [
            words(MARGIN + LABELS - 10, y + 16, label, anchor="end"),
            f'<rect class="{kind}" x="{MARGIN + LABELS}" y="{y}" width="{length:.1f}" height="22" '
            'rx="3"/>',
            words(MARGIN + LABELS + length + 8, y + 16, said),
        ]
    height = 46 + len(rows) * ROW + 34
    body.append(words(MARGIN, height - 14, note, "quiet"))
    return drawing(title, height, body)
