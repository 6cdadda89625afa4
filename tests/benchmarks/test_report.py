"""The report: what it says, that it is safe and complete, and how it behaves in a browser."""

from __future__ import annotations

import base64
import json
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.samples import BOUND, TRAFFIC
from browsers import open_chromium, show_as

from maxim_deploy.benchmarks.profile.profile import Group, LayerProfile
from maxim_deploy.benchmarks.records import Record, read_records
from maxim_deploy.benchmarks.report.answers import answers
from maxim_deploy.benchmarks.report.charts import how_drawn
from maxim_deploy.benchmarks.report.page import page, write_report
from maxim_deploy.benchmarks.report.panels import panels_of, short_number
from maxim_deploy.benchmarks.report.pictures import MIN_LEVELS, BeforeAfter, error_map
from maxim_deploy.benchmarks.subjects import TORCH
from maxim_deploy.benchmarks.summary import summary, throughput
from maxim_deploy.errors import MissingDependencyError, UsageError
from maxim_deploy.runtime.registry import backend_names
from maxim_deploy.spec.places import Place

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ATTACK = """<script>alert("1")</script>' $x_1$"""


MACHINE: dict[str, Any] = {
    "cpu": "Example CPU", "cpus": 2, "python": "3.11", "libraries": {}, "load_average_1m": None,
    "commit": None,
}  # fmt: skip


def record(subject: str = "onnxruntime", ms: float = 100.0, **changes: Any) -> Record:
    """A measurement of nine rounds that scatter by a percent."""
    size = changes.pop("size", (256, 256))
    wobble = changes.pop("wobble", 0.01)
    rounds = [[ms * (1 + wobble * (number % 3 - 1))] * 2 for number in range(9)]
    wall = summary([time for turn in rounds for time in turn])
    timing = {
        "wall": wall, "gpu": None, "rounds_ms": rounds, "warmup_runs": 3, "stable": True,
        **throughput(wall["p50_ms"], *size),
    }  # fmt: skip
    runner = subject if subject in (*backend_names(), *TORCH) else "onnxruntime"
    made = Record(
        "quick", "run1", "2026-01-02T03:04:05+00:00", "demo", "S-1 (features 8)", subject,
        runner, "fp32", size, 1, 2, MACHINE,
        device="cpu", timings={"network": timing},
        memory={
            "size": list(size), "baseline_bytes": 2**27, "peak_bytes": 2**29,
            "bytes_per_pixel": 5.0,
        },
    )  # fmt: skip
    return replace(made, **changes)


def profile() -> LayerProfile:
    places = [Place(1, "encoder", 0, "opening"), Place(1, "decoder", 0, "multi-axis gMLP")]
    groups = tuple(Group(place, "convolution", 4.0, 3) for place in places)
    return LayerProfile(
        "2026-01-02T03:04:05+00:00", "demo", "S-1", "onnxruntime", "onnxruntime 1.32.0", "cpu",
        "fp32", "image", (64, 64), 1, 2, {"cpu": "Example CPU"}, 3, 9.0, 8.5, groups, 0.25, 0.75,
    )  # fmt: skip


def shot(**changes: Any) -> BeforeAfter:
    pixels = np.random.default_rng(0).integers(0, 200, (3, 40, 60, 3)).astype(np.uint8)
    return BeforeAfter(**{"name": "cat", "before": pixels[0], "after": pixels[1]} | changes)


def everything() -> dict[str, Any]:
    sizes = [(256, 256), (512, 512)]
    subjects = {"torch": 200.0, "literal": 150.0, "onnxruntime": 100.0}
    records = [record(s, ms * (n + 1), size=size) for s, ms in subjects.items()
               for n, size in enumerate(sizes)]  # fmt: skip
    return {
        "records": records,
        "profiles": [profile()],
        "parity": [{"a": "torch", "b": "fp16", "passed": False, "psnr": 57.25}, {}],
        "pictures": [shot(target=shot().before), shot(name="dog")],
    }


class Reading(HTMLParser):
    """Elements with their attributes; a tag that is not closed in order is an error."""

    VOID = frozenset({"img", "input", "link", "meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def words(text: str) -> str:
    """What a reader sees, with signs that are on every keyboard."""
    seen = " ".join(re.sub(r"<[^>]+>", " ", text.partition("</style>")[2]).split())
    return seen.replace("\u00d7", "x").replace("\u2013", "-")


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = page(**everything())
    read = Reading(text)
    for attribute in ("src", "href"):
        links = [a[attribute] for _, a in read.found if attribute in a]
        assert all(link.startswith(("data:", "#")) for link in links), links
    assert not re.search(r"url\((?!#)", text)
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    policy = [meta["content"] for meta in read.all("meta") if "http-equiv" in meta]
    assert policy[0].startswith("default-src 'none'")
    anchors = {link["href"][1:] for link in read.all("a") if link["href"].startswith("#")}
    ids = Counter(a["id"] for _, a in read.found if "id" in a)
    assert anchors >= {"summary", "speed", "memory", "blocks", "parity", "pictures", "method"}
    assert anchors <= set(ids)
    assert set(ids.values()) == {1}


def test_everything_has_a_name_for_those_who_cannot_see_it() -> None:
    text = page(**everything())
    read = Reading(text)
    assert read.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in read.all("img"))
    assert all("share of the picture" in control["aria-label"] for control in read.all("input"))
    plots = read.all("svg")
    assert len(plots) >= 4
    assert all(svg["role"] == "img" and ": " in svg["aria-label"] for svg in plots)
    boxes = [div for div in read.all("div") if div.get("class") == "scroll"]
    assert len(boxes) == len(read.all("table")) == len(read.all("caption"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_text_from_outside_is_text() -> None:
    bad = record(ATTACK, model=ATTACK, suite=ATTACK, architecture=ATTACK, warnings=[ATTACK],
                 environment={"cpu": ATTACK, ATTACK: {"x": ATTACK}})  # fmt: skip
    parity = [{"a": ATTACK, "b": ATTACK, "image": ATTACK, "threshold": {"x": ATTACK}}]
    named = replace(profile(), model=ATTACK)
    text = page([bad], parity=parity, pictures=[shot(name=ATTACK, note=ATTACK)], profiles=[named])
    read = Reading(text)
    assert len(read.all("script")) == 1
    assert not re.search(r"<script>alert|onload", text)
    assert "&lt;script&gt;" in text
    assert "$x_1$" in text  # no formula in a plot either


def test_claims_of_the_committed_records() -> None:
    """The ratios that the documentation quotes, worked out here from the raw lines."""
    path = RESULTS / "deployment-cpu2.jsonl"
    lines = {}
    for line in path.read_text().splitlines():
        raw = json.loads(line)
        rounds = raw["timings"]["network"]["rounds_ms"]
        lines[raw["subject"]] = [statistics.median(turn) for turn in rounds]
    own = lines["onnxruntime"]
    shown = words(page(read_records(path)))
    for name, other in (("literal", "literal export"), ("torch", "PyTorch eager")):
        speed = statistics.median(b / a for a, b in zip(own, lines[name], strict=True))
        card = rf"{speed:.2f}x \([\d.]+ to [\d.]+\) the speed of {other}, float32"
        assert re.search(card, shown), card
    assert "815 ms ONNX Runtime, CPU, float32" in shown
    # memory has a size of its own
    assert "Peak host memory, 1024x1024" in shown


def test_a_difference_is_claimed_outside_the_noise_only() -> None:
    def verdict(own: Record, other: Record) -> str:
        (claim,) = panels_of([other, own])[0].claims()
        return claim.verdict

    assert verdict(record(ms=100), record("torch", 200)) == "faster"
    assert verdict(record(ms=200), record("torch", 100)) == "slower"
    noisy = record("torch", 101)
    noisy.timings["network"]["rounds_ms"][::2] = [[90.0]] * 5
    assert verdict(record(ms=100), noisy) == "within the noise"
    few = record("torch", 200)
    del few.timings["network"]["rounds_ms"][4:]
    assert verdict(record(ms=100), few) == "too few rounds"
    assert "no sure difference from PyTorch eager, float32: within the noise" in words(
        page([record(ms=99.5), noisy])
    )


def test_a_faster_baseline_is_shown_as_the_fastest() -> None:
    shown = words(page([record(ms=200), record("torch", 100)]))
    assert "100 ms PyTorch eager, float32" in shown
    assert "ONNX Runtime, CPU, float32 has 0.50x" in shown


def test_only_records_of_one_run_and_model_are_compared() -> None:
    records = [record(), record("torch", 200, run="run2"), record("torch", 200, model="other")]
    panels = panels_of(records)
    assert [len(panel.records) for panel in panels] == [1, 1, 1]
    assert not any([*panel.claims()] for panel in panels)
    other_size = record("torch", 200, size=(512, 512))
    assert not [*panels_of([record(), other_size])[0].claims()]


def test_warnings_and_failures_are_said() -> None:
    failed = record("tensorrt", timings={}, error="no GPU here", memory=None)
    shown = words(page([record(warnings=["the machine was busy"]), failed]))
    assert "ONNX Runtime, CPU, float32, 256x256: the machine was busy" in shown
    assert "TensorRT, float32, 256x256: no GPU here" in shown
    assert "no GPU here" in words(page([failed]))
    assert "ONNX Runtime, CPU, float32 with warnings" in shown
    many = [f"reason {number}" for number in range(20)]
    assert "All 20 warnings ONNX Runtime, CPU, float32, 256x256: reason 0" in words(
        page([record(warnings=many)])
    )
    assert "with warnings" not in words(page([record()]))


def test_one_size_is_bars_and_several_are_lines() -> None:
    one, two = record(), record(size=(512, 512))
    assert "Latency, network alone, 256x256" in words(page([one]))
    shown = words(page([one, two]))
    assert "Latency, network alone by size" in shown
    assert "Throughput, network alone by size" in shown
    assert "Peak host memory by size" in shown


@pytest.mark.parametrize("sizes", [[(256, 256)], [(256, 256), (512, 512)]])
def test_the_legend_describes_what_is_drawn(sizes: list[tuple[int, int]]) -> None:
    shown = how_drawn(panels_of([record(size=size) for size in sizes]))
    assert ("Bars in colour are" in shown) == (len(sizes) == 1)
    assert ("A line per subject" in shown) == (len(sizes) > 1)


def test_the_first_answers_are_how_long_and_which_precision() -> None:
    records = [record(ms=100.0), record(ms=50.0, precision="fp16"), record("torch", ms=10.0)]
    parity = [{"a": "x:literal", "b": "x:fp16", "passed": True, "psnr": psnr} for psnr in (60, 57)]
    text = page(records, parity=parity)
    shown = words(text)
    assert text.index('<section id="answers"') < text.index('<section id="summary"')
    # 100 ms for 65,536 pixels: 1.526 s a megapixel
    assert "ONNX Runtime, CPU, float32 3.1 s 18 s 37 s 256x256, network alone" in shown
    assert "ONNX Runtime, CPU, fp16 1.5 s 9.2 s 18 s 256x256" in shown
    assert "ONNX Runtime, CPU: take fp16, the fastest: 2.00 (" in shown
    assert re.search(r"fp16 2\.00 \(\S+ to \S+\) faster 57\.0 passed 256x256", shown)
    failed = words(page(records, parity=[{"b": "x:fp16", "passed": False}]))
    assert "take float32" in failed
    unsure = [record(), record(ms=99.9, precision="fp16", wobble=0.1)]
    (panel,) = panels_of(unsure)
    assert "take float32; no other precision is surely faster" in answers(panel, []).advice[0]
    (panel,) = panels_of([record()])
    assert "the only precision that was measured" in answers(panel, []).advice[0]
    (panel,) = panels_of([record("torch")])
    assert answers(panel, []) is None


def test_profiling_that_slows_the_network_is_said() -> None:
    slow = replace(profile(), plain_ms=4.5)
    assert "profiling slowed the network, 2.00 times" in words(page([], profiles=[slow]))


def test_the_ceiling_and_load_are_shown_where_there_are_any() -> None:
    assert "Share of the ceiling" not in words(page([record()]))
    measured = record()
    cost = {"operations_per_pixel": 1234.0, "bytes_per_pixel": 56.0, "bound_ms": 43.0,
            "share": 0.43, "gflops": 91.0, "gbps": 26.0}  # fmt: skip
    object.__setattr__(measured, "cost", cost)
    latency = {"p95_ms": 12.0}
    measured.load.extend([
        {"mode": "closed", "callers": 2, "offered_per_s": None, "images_per_s": 9.0,
         "latency": latency},
        {"mode": "open", "callers": None, "offered_per_s": 5.0, "images_per_s": 5.0,
         "latency": latency},
    ])  # fmt: skip
    shown = words(page([measured]))
    assert "Share of the ceiling, 256x256" in shown
    assert "1 234 56.0 43.0 100 43.0 91.0 26.0" in shown
    assert "Throughput under load, closed loop" in shown
    assert "Latency under load, open loop" in shown


def test_the_traffic_of_engines_is_shown_where_it_is_known() -> None:
    assert "Traffic of engines" not in words(page([record()], profiles=[profile()]))
    engine = record("tensorrt", bound=BOUND)
    shown = words(page([engine], profiles=[replace(profile(), traffic=TRAFFIC, bound=BOUND)]))
    assert "this is a lower bound, not a measurement" in shown
    assert "256x256 NVIDIA L4 data sheet 70.0 2.50 10.0 25.0 300 121 000" in shown
    assert "Traffic, demo" in shown and "of these float32, % 40.0" in shown
    assert "lower bound, not a measurement, ms 2.50" in shown
    assert "multi-axis gMLP 4 60.0 85.7" in shown and "matrix product 5 70.0 100" in shown


def test_parity_with_and_without_its_numbers() -> None:
    rows = [
        {"a": "torch", "b": "fp32", "image": "x.png", "max_error_levels": 0.0003,
         "mean_error_levels": 0.00002, "p999_error_levels": 0.0001, "psnr": 132.123,
         "ssim": 0.999991, "threshold": {"psnr": 60}, "passed": True},
        {"a": "torch", "b": "fp16", "passed": False, "faults": ["57 dB, not 60"]},
        {},
    ]  # fmt: skip
    shown = words(page([], parity=rows))
    assert "3 compared, 1 outside its threshold" in shown
    assert "torch fp32 x.png psnr 60 passed 0.0003 0.0001 2e-05 132.12 0.99999" in shown
    assert "torch fp16 - - failed 57 dB, not 60 - - - - -" in shown


def test_the_profile_is_shown_by_block() -> None:
    shown = words(page([], profiles=[profile()]))
    assert "medians of 3 runs, 9.0 ms (8.5 ms without the profiler" in shown
    assert "stage 1 encoder, level 0 4.00 44.4 %" in shown
    assert "not attributed 0.25 2.8 %" in shown
    assert "multi-axis gMLP 4.00" in shown


def test_the_map_shows_what_is_wrong_or_what_was_changed() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    after = grey.copy()
    after[2, 3, 1] = 160
    levels, brightest = error_map(shot(before=grey, after=after))
    assert levels[2, 3] == 60
    assert levels.sum() == 60
    assert brightest > MIN_LEVELS
    right = shot(before=grey, after=after, target=after)
    levels, brightest = error_map(right)
    assert (levels.max(), brightest) == (0, MIN_LEVELS)
    assert "What is still wrong: 0.00 levels" in words(page([], pictures=[right]))
    assert "What was changed" in words(page([], pictures=[shot()]))
    # One value of 8x8x3 is wrong by 60: the mean over values, which is never above the RMSE.
    wrong = words(page([], pictures=[shot(before=grey, after=after)]))
    assert f"What was changed: {60 / 192:.2f} levels of 255 in the mean" in wrong


def test_pictures_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'cat' must be uint8 \(40, 60, 3\), not uint8 \(4, 6"):
        shot(after=np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(UsageError, match="not float32"):
        shot(target=np.zeros((40, 60, 3), np.float32))


def test_the_records_can_be_taken_out_again(tmp_path: Path) -> None:
    records = [record(), record("torch", 200)]
    (link,) = [a for a in Reading(page(records)).all("a") if "download" in a]
    path = tmp_path / "records.jsonl"
    path.write_bytes(base64.b64decode(link["href"].partition("base64,")[2]))
    assert read_records(path) == records


def test_writing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report([record()], path)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>\n<html")
    with pytest.raises(UsageError, match="there is nothing to report"):
        write_report([], tmp_path / "x.html")
    with pytest.raises(UsageError, match="cannot write the report"):
        write_report([record()], path / "inside-a-file.html")


def test_without_matplotlib_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.split(".")[0] == "matplotlib":
            monkeypatch.delitem(sys.modules, name)

    def refuse(module: str, extra: str) -> None:
        raise MissingDependencyError(f"{module}; run: pip install 'maxim-deploy[{extra}]'")

    from maxim_deploy.benchmarks.report import plots

    monkeypatch.setattr(plots, "require", refuse)
    with pytest.raises(MissingDependencyError, match=r"matplotlib.*maxim-deploy\[bench\]"):
        page([record()])


def test_a_report_carries_no_heavy_library() -> None:
    script = (
        "import sys, maxim_deploy.benchmarks.report.page\n"
        "print({'torch', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert found.stdout.strip() == "set()", found.stderr


def test_numbers_have_three_digits() -> None:
    assert [short_number(x) for x in (12345.6, 99.94, 9.999, 0.0, 0.08, 0.0003)] == [
        "12\u202f346", "99.9", "10.00", "0.00", "0.08", "0.0003",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    opened = open_chromium(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.quit()


WIDER = """
return [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, nav, svg"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1
            && getComputedStyle(e).position !== "absolute")
  .map(e => e.tagName + "." + e.className)
"""


HIDDEN = """
return [...document.querySelectorAll(".stacks td")]
  .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.dataset.head)
"""
"""Ratios, verdicts and times of photos that only scrolling would show."""


@pytest.mark.extended
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    path = tmp_path / "report.html"
    write_report(path=path, **everything())
    show_as(browser, width, scheme)
    browser.get(path.as_uri())
    for folded in browser.find_elements(By.CSS_SELECTOR, "details"):
        browser.execute_script("arguments[0].open = true", folded)

    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(WIDER) == []
    assert browser.execute_script(HIDDEN) == []
    loaded = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert [n for n in browser.execute_script(loaded) if not n.startswith("data:")] == []
    colour = "return getComputedStyle(document.body).backgroundColor"
    bright = sum(map(int, re.findall(r"\d+", browser.execute_script(colour))[:3])) > 384
    assert bright == (scheme == "light")

    slider = browser.find_element(By.CSS_SELECTOR, ".slider")
    control = slider.find_element(By.TAG_NAME, "input")
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider
    )

    def clip() -> str:
        after = slider.find_element(By.CSS_SELECTOR, ".after")
        return after.value_of_css_property("clip-path").replace("inset(0px 0px 0px ", "")

    assert clip().startswith("50%")
    control.send_keys(Keys.ARROW_LEFT * 3)
    assert clip().startswith("47%")
    assert control.get_attribute("aria-valuetext") == "47 % before"
    across = int(slider.size["width"] * 0.4)
    ActionChains(browser).click_and_hold(control).move_by_offset(across, 0).release().perform()
    assert 80 <= float(clip().partition("%")[0]) <= 97
    assert control.get_attribute("value") == clip().partition("%")[0]
    errors = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
    assert errors == []
