"""The page in Chromium: what it restores, says, saves and refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import open_chromium, show_as
from hosts.web_browsing import ISOLATION, Page, problems, recording_proxy, served
from hosts.web_sites import real_runtime, write_site
from numpy.typing import NDArray
from PIL import Image

import maxim_deploy
from maxim_deploy.hosts.sample import noisy_photograph
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.transparency import filled, put_back_hidden

pytestmark = pytest.mark.slow

NEVER = "http://another-server.test/"


@pytest.fixture(scope="module")
def site(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(demo_bundle, real_runtime(), tmp_path_factory.mktemp("web") / "site")


@pytest.fixture(scope="module")
def asked_elsewhere() -> Iterator[tuple[str, list[str]]]:
    with recording_proxy() as recorded:
        yield recorded


@pytest.fixture(scope="module")
def browser(
    site: Path, asked_elsewhere: tuple[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    proxy, _ = asked_elsewhere
    profile = tmp_path_factory.mktemp("profile")
    opened = open_chromium(
        profile,
        f"--proxy-server={proxy}",
        "--enable-unsafe-webgpu",
        "--force-prefers-reduced-motion",
    )
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with served(site, {}) as at:
        yield at


@pytest.fixture
def page(browser: Any, address: str, tmp_path: Path) -> Page:
    """The page, ready; it is loaded again only if another one was in the meantime."""
    opened = Page(browser, address, tmp_path / "saved")
    if browser.current_url != address:
        opened.open()
    return opened


@pytest.fixture(scope="module")
def restorer(demo_bundle: Path) -> Iterator[maxim_deploy.Restorer]:
    with maxim_deploy.load(demo_bundle) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_complaints(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing in the browser's console: no exception, and nothing that the policy has blocked."""
    yield
    if "page" in request.fixturenames:
        assert problems(request.getfixturevalue("browser")) == []


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """The noisy photograph, repeated as far as needed."""
    _, noisy = noisy_photograph()
    times = (-(-height // noisy.shape[0]), -(-width // noisy.shape[1]), 1)
    return np.tile(noisy, times)[:height, :width]


def saved(path: Path, pixels: NDArray[np.uint8], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def levels(a: NDArray[Any], b: NDArray[Any]) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def test_it_restores_as_maxim_run_does(page: Page, demo_bundle: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from maxim_deploy.cli.run import run

    path = saved(tmp_path / "cat.png", picture(300, 451))
    assert re.fullmatch(r"Done: cat\.png, 451 x 300, in [\d.]+ s\.", page.restore(path))
    result = page.save()
    assert result.name == "cat.restored.png"
    expected = tmp_path / "expected.png"
    done = CliRunner().invoke(run, [str(demo_bundle), str(path), "-o", str(expected)])
    assert done.exit_code == 0, done.output
    assert levels(read_image(result).rgb, read_image(expected).rgb) <= 1
    assert levels(read_image(result).rgb, read_image(path).rgb) > 50  # it has done something


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (64, 80), (48, 48)])
def test_sizes(
    page: Page, restorer: maxim_deploy.Restorer, tmp_path: Path, size: tuple[int, int]
) -> None:
    _check_size(page, restorer, tmp_path, size)


@pytest.mark.extended
def test_a_frame_of_a_video(page: Page, restorer: maxim_deploy.Restorer, tmp_path: Path) -> None:
    _check_size(page, restorer, tmp_path, (720, 1280))


def _check_size(
    page: Page, restorer: maxim_deploy.Restorer, folder: Path, size: tuple[int, int]
) -> None:
    """Against `Restorer`'s float32 result, clipped and in levels, to within one level."""
    pixels = picture(*size)
    page.restore(saved(folder / "in.png", pixels))
    unit = restorer(pixels.astype(np.float32) / 255)
    found = read_image(page.save()).rgb
    assert found.shape == pixels.shape
    assert np.abs(found - 255 * np.clip(unit, 0, 1)).max() <= 1


def test_before_and_after_under_a_slider(page: Page, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.restore(saved(tmp_path / "wide.png", picture(64, 400)))
    page.browser.execute_script(
        "document.querySelector('.slider').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    control, after = page.find("split"), page.find("after")

    def clip() -> str:
        shown = after.value_of_css_property("clip-path").replace("inset(0px 0px 0px ", "")
        return str(shown.removesuffix(")"))

    assert clip() == "50%"
    control.send_keys(Keys.ARROW_LEFT * 3)
    assert clip() == "47%"
    assert control.get_attribute("aria-valuetext") == "47 % before"
    assert control.get_attribute("aria-label") == "Share of the picture shown before restoring"
    across = int(control.size["width"] * 0.4)
    ActionChains(page.browser).click_and_hold(control).move_by_offset(across, 0).release().perform()
    assert 80 <= float(clip().rstrip("%")) <= 97
    for image in (page.find("before"), after):
        assert image.get_property("naturalWidth") == 400
        assert image.size == control.size


FOCUS = """
const at = document.activeElement;
const shown = { file: at.nextElementSibling, split: at.parentElement }[at.id] ?? at;
return [at.id, getComputedStyle(shown).outlineStyle];
"""
"""What has the focus, and how it is outlined. Of two controls something else is what is seen."""


def test_the_keyboard_suffices(page: Page) -> None:
    """Controls are reached in the order of the page, show the focus, and keep it at work."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> list[str]:
        ActionChains(page.browser).send_keys(*keys).perform()
        return list(page.browser.execute_script(FOCUS))

    page.open()
    assert press(Keys.TAB) == ["file", "solid"]
    assert press(Keys.TAB) == ["sample", "solid"]
    assert press(Keys.ENTER) == ["sample", "solid"]
    page.wait(lambda: page.status.startswith("Done: sample.png"))
    for name in ("split", "save", "webgpu"):
        assert press(Keys.TAB) == [name, "solid"]


def test_transparency_is_kept(page: Page, restorer: maxim_deploy.Restorer, tmp_path: Path) -> None:
    """And what is seen is what `maxim-run` makes of it, whatever the hidden pixels are."""
    alpha = np.full((64, 80, 1), 255, np.uint8)
    alpha[:, :20] = alpha[10:50, 60:63] = alpha[60:] = 0
    rgb = np.where(alpha == 0, 0, picture(64, 80))
    page.restore(saved(tmp_path / "cut.out.png", np.concatenate([rgb, alpha], axis=2)))
    result = page.save()
    assert result.name == "cut.out.restored.png"
    found = np.asarray(Image.open(result))
    assert (found[..., 3:] == alpha).all()
    expected = restorer(filled(rgb, alpha[..., 0]))
    put_back_hidden(expected, rgb, alpha[..., 0])
    assert levels(found[..., :3], expected) <= 1


def test_half_transparent_pixels(page: Page, tmp_path: Path) -> None:
    rgba = np.concatenate([picture(64, 80), np.full((64, 80, 1), 128, np.uint8)], axis=2)
    page.restore(saved(tmp_path / "half.png", rgba))
    found = np.asarray(Image.open(page.save()))
    assert found.shape == rgba.shape
    assert (found[..., 3] == 128).all()


def test_the_picture_is_turned_as_its_camera_says(
    page: Page, restorer: maxim_deploy.Restorer, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "turned.png", picture(40, 70), exif=exif)
    page.restore(path)
    expected = restorer(np.rot90(picture(40, 70), -1).copy())
    assert levels(read_image(page.save()).rgb, expected) <= 1


def test_no_picture(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    assert page.restore(path) == (
        "notes.txt is no picture that this browser can read, or is damaged. "
        "Choose a JPEG, PNG, WebP, AVIF or GIF file."
    )
    # The worker is still of use.
    assert page.restore(saved(tmp_path / "a.png", picture(8, 8))).startswith("Done: a.png")


def test_too_large_a_picture(page: Page, site: Path, tmp_path: Path) -> None:
    most = json.loads((site / "site.json").read_text("utf-8"))["most_pixels"]
    path = tmp_path / "large.png"
    Image.new("L", (4000, 3000)).save(path)
    assert page.restore(path) == (
        "large.png is too large: 4000 x 3000 (12.0 megapixels). This page restores up to "
        f"{most / 1e6:.1f} megapixels. Choose a smaller picture, or use maxim-run."
    )


def test_cancelling(page: Page, tmp_path: Path) -> None:
    page.choose(saved(tmp_path / "large.png", picture(900, 1200)))
    page.wait(lambda: page.status == "Restoring large.png, 1200 x 900")
    page.wait(lambda: " of about " in page.find("clock").text)
    assert page.find("sample").get_attribute("aria-disabled") == "true"
    page.find("sample").click()
    assert page.status == "Still working. Wait, or cancel first."
    page.find("cancel").click()
    assert page.ended() == "Cancelled. Choose a picture to start again."
    assert page.restore(saved(tmp_path / "a.png", picture(8, 8))).startswith("Done: a.png")


TRANSFER = """
const [kind, type] = arguments;
fetch("sample.png").then((answer) => answer.blob()).then((blob) => {
  const data = new DataTransfer();
  data.items.add(new File([blob], "dropped.png", {type: "image/png"}));
  const event = kind === "paste"
    ? new ClipboardEvent(kind, {clipboardData: data, bubbles: true})
    : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
});
"""


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_dropping_and_pasting(page: Page, how: str) -> None:
    page.browser.execute_script(TRANSFER, how)
    page.wait(lambda: page.status.startswith("Restoring dropped.png, 451 x 300"))
    assert page.ended().startswith("Done: dropped.png, 451 x 300")


def test_the_sample(page: Page, restorer: maxim_deploy.Restorer) -> None:
    page.find("sample").click()
    assert page.ended().startswith("Done: sample.png, 451 x 300")
    assert levels(read_image(page.save()).rgb, restorer(noisy_photograph()[1])) <= 1


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_desk_and_on_a_phone(page: Page, tmp_path: Path, width: int, scheme: str) -> None:
    show_as(page.browser, width, scheme)
    try:
        page.restore(saved(tmp_path / "wide.png", picture(100, 1000)))
        script = page.browser.execute_script
        assert script("return innerWidth") == width
        assert script("return document.documentElement.scrollWidth") <= width
        colour = script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", colour)[:3])) > 384) == (scheme == "light")
        for button in page.browser.find_elements("css selector", ".button"):
            if button.is_displayed():
                assert button.size["height"] >= 44  # as large as a finger
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_it_says_of_itself(page: Page) -> None:
    facts = page.facts()
    assert facts["Backend"] == "WebAssembly, onnxruntime-web 1.30.0, float32"
    assert facts["Threads"] == "1 (the server sends no isolation headers)"
    assert facts["Licence"] == "Apache-2.0"
    assert re.fullmatch(r"about [\d.]+ s per megapixel, measured on the sample", facts["Speed"])
    status = page.find("status")
    assert status.get_attribute("role") == "status"
    assert status.get_attribute("aria-live") == "polite"


def test_isolated_it_uses_more_threads(
    browser: Any, site: Path, restorer: maxim_deploy.Restorer, tmp_path: Path
) -> None:
    with served(site, ISOLATION) as address:
        page = Page(browser, address, tmp_path / "saved")
        page.open()
        cores = browser.execute_script("return navigator.hardwareConcurrency")
        assert page.facts()["Threads"] == str(min(4, cores))
        page.restore(saved(tmp_path / "a.png", picture(70, 90)))
        assert levels(read_image(page.save()).rgb, restorer(picture(70, 90))) <= 1
        assert problems(page.browser) == []


def test_it_asks_no_other_server(
    page: Page, asked_elsewhere: tuple[str, list[str]], tmp_path: Path
) -> None:
    _, asked = asked_elsewhere
    page.restore(saved(tmp_path / "a.png", picture(8, 8)))
    assert [url for url in asked if "google" not in url] == []  # Chromium's own
    page.browser.get(NEVER)  # the recorder does record
    assert NEVER in asked
    page.open()
    problems(page.browser)


ASKING = """
self.onmessage = ({ data }) =>
  fetch(data).then(() => self.postMessage("reached"), (error) => self.postMessage(error.name));
"""
ASK = """
const [url, done] = arguments;
import(new URL("engine.js", location.href).href).then(({ startWorker }) => {
  const worker = startWorker("asking.js");
  worker.onmessage = ({ data }) => done(data);
  worker.postMessage(url);
});
"""


def test_the_worker_is_bound_to_this_server(page: Page, site: Path) -> None:
    """The policy holds where the picture is, too."""
    (site / "asking.js").write_text(ASKING)
    assert page.browser.execute_async_script(ASK, page.address) == "reached"
    assert page.browser.execute_async_script(ASK, NEVER) == "TypeError"
    assert any("Content Security Policy" in one for one in problems(page.browser))


STAND_IN = """
import * as wasm from "./ort.wasm.min.mjs";
export const { Tensor, env } = wasm;
export const InferenceSession = {
  async create(graph, options) {
    const session = await wasm.InferenceSession.create(graph, {
      ...options, executionProviders: ["wasm"],
    });
    return {
      async run(feeds) {
        const results = await session.run(feeds);
        const { data } = results.restored;
        CHANGE;
        return results;
      },
    };
  },
};
"""
"""In place of the interface to WebGPU: WebAssembly, whose results are changed."""

OFF = "data[5] += data[5] > 127 ? -{0} : {0}"


@pytest.fixture
def changed_page(
    browser: Any, site: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """A page whose WebGPU changes results by a statement."""
    copy = shutil.copytree(site, tmp_path / "site")
    module = STAND_IN.replace("CHANGE", request.param)
    (copy / "runtime" / "ort.webgpu.min.mjs").write_text(module)
    facts = json.loads((copy / "site.json").read_text("utf-8"))
    facts["runtime"]["webgpu"]["binary"] = facts["runtime"]["wasm"]["binary"]
    (copy / "site.json").write_text(json.dumps(facts))
    with served(copy, {}) as address:
        opened = Page(browser, address, tmp_path / "saved")
        opened.open()
        yield opened


@pytest.mark.parametrize("changed_page", [OFF.format(1)], indirect=True, ids=["changed"])
def test_webgpu_within_a_level_is_used(changed_page: Page) -> None:
    page = changed_page
    page.find("webgpu").click()
    assert page.ended() == "Ready. Choose a picture."
    assert page.facts()["Backend"] == "WebGPU, onnxruntime-web 1.30.0, float32"
    assert page.find("webgpu").is_selected()
    said = "WebGPU differs from WebAssembly by up to 1 of 255 levels on the sample"
    assert page.find("webgpu-note").text == f"{said}."
    page.find("webgpu").click()
    assert page.ended() == "Ready. Choose a picture."
    assert page.facts()["Backend"].startswith("WebAssembly")


@pytest.mark.parametrize("changed_page", [OFF.format(2)], indirect=True, ids=["changed"])
def test_webgpu_that_is_wrong_is_refused(changed_page: Page) -> None:
    page = changed_page
    page.find("webgpu").click()
    assert page.ended() == (
        "WebGPU differs from WebAssembly by up to 2 of 255 levels on the sample; at most 1 is "
        "allowed. WebAssembly stays in use."
    )
    assert not page.find("webgpu").is_selected()
    assert page.facts()["Backend"].startswith("WebAssembly")


@pytest.mark.parametrize(
    "changed_page", ['throw new Error("device lost")'], indirect=True, ids=["changed"]
)
def test_webgpu_that_fails_is_refused(changed_page: Page) -> None:
    page = changed_page
    page.find("webgpu").click()
    assert page.ended() == ("WebGPU failed on the sample: device lost. WebAssembly stays in use.")
    assert page.facts()["Backend"].startswith("WebAssembly")
    page.find("sample").click()
    assert page.ended().startswith("Done: sample.png")


def test_opened_as_a_file_it_says_what_to_do(browser: Any, site: Path, tmp_path: Path) -> None:
    browser.get((site / "index.html").as_uri())
    status = browser.find_element("id", "status").text
    assert "python -m http.server" in status
    problems(browser)
