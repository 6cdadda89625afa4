"""What MkDocs cannot do by itself: pages from outside `docs/`, and guides that no list names."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

OUTSIDE = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "COMPATIBILITY.md": "project/compatibility.md",
    "RELEASING.md": "project/releasing.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "benchmarks/RESULTS.md": "project/results.md",
    "engines/README.md": "project/engines.md",
    "export/README.md": "project/recipes.md",
}
"""Files of the repository that are pages of the site, as far as they exist."""

FILES = "project/files"
"""Where other files of the repository lie on the site, if a page links to them."""

WORKER_ON_THE_WEB = "https://unpkg.com/iframe-worker/shim"
WORKER = "javascripts/worker-from-file.js"
"""What the theme loads from the web for its search, and our own in its place."""

_LINK = re.compile(r"(?<=\]\()([\w./-]+)(#[\w-]*)?(?=\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add guides that are not in the navigation, and the pages from outside."""
    assert config.nav is not None
    listed = set(_pages_of(config.nav))
    guides = sorted(path.name for path in (ROOT / "docs" / "guides").glob("*.md"))
    more = [f"guides/{name}" for name in guides if f"guides/{name}" not in listed]
    groups = next(entry["Guides"] for entry in config.nav if "Guides" in entry)
    groups.remove(next(group for group in groups if "More machines" in group))
    if more:
        groups.append({"More machines": more})
    config.nav.append({"Project": [OUTSIDE[name] for name in _present()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    for name in _present():
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, OUTSIDE[name], content=text))
    for name in sorted(_linked_files()):
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, f"{FILES}/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files from outside lead to where the site has them."""
    uri = page.file.src_uri
    source = next((name for name, made in OUTSIDE.items() if made == uri), f"docs/{uri}")

    def relinked(found: re.Match[str]) -> str:
        inside = _on_site(_target(source, found[1]))
        if inside is None:
            return found[0]
        return posixpath.relpath(inside, posixpath.dirname(uri)) + (found[2] or "")

    return _LINK.sub(relinked, markdown)


def _target(source: str, link: str) -> str:
    """The file of the repository that a link in one of its files leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _on_site(target: str) -> str | None:
    """Where the site has a file of the repository; None if it has not."""
    if target == "README.md":
        return "index.md"
    if target in OUTSIDE:
        return OUTSIDE[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"{FILES}/{target}" if (ROOT / target).is_file() else None


def _linked_files() -> set[str]:
    """The files of the repository that pages link to, and that are no pages."""
    docs = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")]
    targets = {
        _target(source, found[1])
        for source in (*docs, *_present())
        for found in _LINK.finditer((ROOT / source).read_text("utf-8"))
    }
    return {one for one in targets if (_on_site(one) or "").startswith(f"{FILES}/")}


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Take the script for search from the site itself."""
    return _own_worker(output, posixpath.dirname(page.url))


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """Do so on the page for missing addresses."""
    return _own_worker(output_content, "") if template_name == "404.html" else output_content


def _own_worker(html: str, folder: str) -> str:
    return html.replace(WORKER_ON_THE_WEB, posixpath.relpath(WORKER, folder or "."))


def _present() -> list[str]:
    return [name for name in OUTSIDE if (ROOT / name).is_file()]


def _pages_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in entries for page in _pages_of(entry)]
