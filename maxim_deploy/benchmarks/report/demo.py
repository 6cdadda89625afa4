"""The page of `maxim-deploy demo`: pictures before and after, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from maxim_deploy._files import write_text
from maxim_deploy._version import __version__
from maxim_deploy.benchmarks.report.pictures import BeforeAfter, data_uri

_HERE = Path(__file__).parent

# The page loads nothing, so it works from a mail and from `file://`. The policy says so too.
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>maxim-deploy demo</title>
<style>$style</style>
</head>
<body>
<header><p class="brand">maxim-deploy $version</p><h1>The demo model on a photograph</h1>
<p>$about</p></header>
<main>
$pictures
<section><h2>Next</h2>$next</section>
</main>
<script>$script</script>
</body>
</html>
""")

_PICTURE = Template("""\
<article class="picture">
<h2>$name</h2>
<p class="muted">$note</p>
<figure>
<div class="slider">
<img src="$before" alt="$name, before" width="$width" height="$height">
<img src="$after" alt="$name, after" class="after" width="$width" height="$height">
<span class="tag left" aria-hidden="true">before</span>
<span class="tag right" aria-hidden="true">after</span>
<span class="divider" aria-hidden="true"></span>
<input type="range" min="0" max="100" value="50" step="1"
 aria-label="$name: share of the picture that is shown before restoration"
 aria-valuetext="50 % before">
</div>
<figcaption>$quality</figcaption>
</figure>
</article>
""")


def write_demo_page(
    path: Path, about: str, pictures: Sequence[BeforeAfter], commands: Sequence[str]
) -> None:
    """Write the page. It needs no network and no other file.

    Args:
        path: the HTML file.
        about: purpose of the model.
        pictures: pictures, each with its target for the numbers.
        commands: commands to try next.

    Raises:
        OSError: the file cannot be written.
    """
    page = _PAGE.substitute(
        style=(_HERE / "style.css").read_text("utf-8"),
        script=(_HERE / "script.js").read_text("utf-8"),
        version=escape(__version__),
        about=escape(about),
        pictures="".join(map(_picture, pictures)),
        next="".join(f"<pre><code>{escape(command)}</code></pre>" for command in commands),
    )
    write_text(path, page)


def _picture(picture: BeforeAfter) -> str:
    height, width = picture.before.shape[:2]
    return _PICTURE.substitute(
        name=escape(picture.name),
        note=escape(picture.note),
        before=data_uri(picture.before),
        after=data_uri(picture.after),
        height=height,
        width=width,
        quality=escape(picture.quality or ""),
    )
