"""The site: it builds strictly, is whole, loads nothing from elsewhere, and reads on any screen."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browsers import open_chromium, show_as
from documentation.pages import DOCS, ROOT

from maxim_deploy.machine.processes import python_process

pytest.importorskip("mkdocs", reason="pip install 'maxim-deploy[docs]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds."""
    folder = tmp_path_factory.mktemp("site")
    arguments = ("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder)
    # Without the theme's advice on stderr to take its successor.
    command = python_process(*arguments, env={"NO_MKDOCS_2_WARNING": "1"})
    done = subprocess.run(**command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


class Page(HTMLParser):
    """What a page loads, what it links to, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif "src" in found or (tag == "link" and found.get("rel") in ("stylesheet", "icon")):
            self.loads.append(found.get("src") or found["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_page_is_there(site: Path, pages: dict[Path, Page]) -> None:
    expected = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert expected <= {path.relative_to(site) for path in pages}
    assert {"llms.txt", "images"} <= {path.name for path in site.iterdir()}
    assert not (site / "tools").exists()


def test_it_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for loaded in page.loads:
            assert not urlsplit(loaded).scheme or loaded.startswith("data:"), (path, loaded)
            assert (path.parent / unquote(urlsplit(loaded).path)).is_file(), (path, loaded)


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors | {"__skip"}, (path, link)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = open_chromium(
        tmp_path_factory.mktemp("profile"), "--host-resolver-rules=MAP * ~NOTFOUND"
    )
    yield chromium
    chromium.quit()


SHOWN = ("index", "start", "guides/engines", "concepts/rewrites", "reference/commands",
         "reference/python", "reference/what-files-keep", "reference/what-ran-where")  # fmt: skip


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_read_well(site: Path, browser: Any, width: int, scheme: str) -> None:
    """From the file system: no error on the console, and no scrolling sideways.

    What a page asks of another host is refused here, and the console shows that as an error.
    """
    show_as(browser, width, scheme)
    for name in SHOWN:
        browser.get((site / f"{name}.html").as_uri())
        wide = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide == 0, name
        is_dark = browser.execute_script("return document.body.dataset.mdColorScheme") == "slate"
        assert is_dark == (scheme == "dark"), name
        faults = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
        assert faults == [], name


def test_search_works_from_the_file_system(site: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    show_as(browser, 1280, "light")
    browser.get((site / "start.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "[data-md-component=search-query]").send_keys("lanes")
    found = WebDriverWait(browser, 20).until(
        lambda shown: shown.find_elements(By.CSS_SELECTOR, ".md-search-result__item a")
    )
    assert any("lanes.html" in one.get_attribute("href") for one in found)
