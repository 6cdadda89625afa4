"""The site that `--for web` writes, without a browser; see `test_web_page` for that."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cli.commands import command
from hosts.web_sites import WEB, real_runtime, stand_ins, write_site

from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.hosts import web_runtime
from maxim_deploy.hosts.order import Wishes
from maxim_deploy.hosts.sample import noisy_photograph
from maxim_deploy.hosts.web import ADDRESSABLE_BYTES, PAGE, most_pixels
from maxim_deploy.imaging.files import read_image
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.run_memory import RunMemory

IMPORT = re.compile(r'^import .* from "(\./\w+\.js)";$', re.MULTILINE)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return stand_ins(tmp_path / "dist", monkeypatch)


@pytest.fixture
def site(demo_bundle: Path, runtime: Path, tmp_path: Path) -> Path:
    return write_site(demo_bundle, runtime, tmp_path / "site")


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page(folder: Path) -> Elements:
    return Elements((folder / "index.html").read_text("utf-8"))


def test_the_site_is_whole(site: Path) -> None:
    """Every file that the page names is there, and every file that is there is named."""
    facts = json.loads((site / "site.json").read_text("utf-8"))
    backends = [facts["runtime"][name] for name in web_runtime.BACKENDS]
    sized = [facts["graph"], *(one[key] for one in backends for key in ("module", "binary"))]
    for entry in sized:
        assert (site / entry["file"]).stat().st_size == entry["bytes"], entry
    links = [a[key] for _, a in page(site).found for key in ("src", "href") if a.get(key)]
    modules = [name for path in site.glob("*.js") for name in IMPORT.findall(path.read_text())]
    named = {str(name).removeprefix("./") for name in (*links, *modules)}
    glue = {f"runtime/{one.glue}" for one in web_runtime.BACKENDS.values()}
    named |= glue | {entry["file"] for entry in sized}
    named |= {"index.html", "site.json", facts["sample"], "worker.js"}
    documents = {"README.md", "LICENSE", "runtime/LICENSE"}
    there = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert there == named | documents


def test_every_import_is_exported() -> None:
    for path in PAGE.glob("*.js"):
        text = path.read_text("utf-8")
        for names, file in re.findall(r'^import \{ (.*) \} from "\./(.*)";$', text, re.MULTILINE):
            exports = (PAGE / file).read_text("utf-8")
            for name in names.split(", "):
                pattern = rf"^export (async )?(function|class|const) {name}\b"
                assert re.search(pattern, exports, re.MULTILINE), (path.name, name)


def test_no_page_file_names_another_server() -> None:
    for path in PAGE.iterdir():
        if path.suffix in (".html", ".css", ".js"):
            addresses = re.findall(r"\b(?:https?:)?//[\w.-]+\.\w+", path.read_text("utf-8"))
            assert addresses == [], path.name


def test_the_policy_allows_this_site_only() -> None:
    (policy,) = [meta["content"] for meta in page(PAGE).all("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert rules.pop("default-src") == "'none'"
    allowed = {source for rule in rules.values() for source in rule.split()}
    assert allowed == {"'self'", "'none'", "'wasm-unsafe-eval'", "blob:"}
    assert rules["connect-src"] == "'self'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    # Neither scripts nor styles in the page itself, which such a policy would refuse.
    assert all(script["src"] for script in page(PAGE).all("script"))
    assert not page(PAGE).all("style")
    assert not any(name.startswith("on") for _, a in page(PAGE).found for name in a)


def test_every_control_has_a_name() -> None:
    labels = {label["for"] for label in page(PAGE).all("label")}
    for control in page(PAGE).all("input"):
        assert control["id"] in labels or control.get("aria-label"), control["id"]
    assert all(image["alt"] for image in page(PAGE).all("img"))
    assert page(PAGE).all("html")[0]["lang"] == "en"


def test_the_graph_is_one_file_and_the_same(site: Path, demo_bundle: Path) -> None:
    import onnxruntime as ort

    import maxim_deploy

    alone = shutil.move(site / "model.onnx", site.parent / "alone.onnx")
    session = ort.InferenceSession(alone, providers=["CPUExecutionProvider"])
    _, noisy = noisy_photograph()
    small = noisy[:37, :53]
    with maxim_deploy.load(demo_bundle) as restorer:
        expected = restorer(small)
    (found,) = session.run(None, {"image": small[np.newaxis]})
    assert np.abs(found[0].astype(int) - expected).max() <= 1


def test_what_the_site_says_of_itself(site: Path, demo_bundle: Path) -> None:
    facts = json.loads((site / "site.json").read_text("utf-8"))
    assert facts["model"]["name"] == "demo-denoise"
    assert facts["model"]["licence"] == "Apache-2.0"
    assert facts["runtime"]["version"] == web_runtime.VERSION
    assert (site / "LICENSE").read_bytes() == (demo_bundle / "LICENSE").read_bytes()
    assert (read_image(site / facts["sample"]).rgb == noisy_photograph()[1]).all()
    readme = (site / "README.md").read_text("utf-8")
    assert "python -m http.server" in readme
    assert "demo-denoise" in readme
    assert "$" not in readme


def test_the_largest_picture_follows_the_memory() -> None:
    memory = RunMemory([(4096, 10**7), (65536, 10**8)], 2700.0)
    most = most_pixels(memory, 50 * 10**6)
    assert most % 4096 == 0
    assert 2 * 10**9 < memory.bytes_for(most) < ADDRESSABLE_BYTES - 3 * 50 * 10**6
    assert most_pixels(memory, 100 * 10**6) < most
    assert most_pixels(memory._replace(bytes_per_pixel=403.0), 50 * 10**6) > 5 * most
    # No graph is so large, but then no picture fits.
    assert most_pixels(memory, ADDRESSABLE_BYTES) == 0


def test_a_bundle_that_nobody_measured_has_a_limit(
    demo_bundle: Path, runtime: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(demo_bundle, tmp_path / "bundle")
    (bundle / "export.json").unlink()
    site = write_site(bundle, runtime, tmp_path / "unmeasured")
    assert json.loads((site / "site.json").read_text("utf-8"))["most_pixels"] > 720 * 1280


def test_without_the_runtime_the_npm_command() -> None:
    with pytest.raises(UsageError) as caught:
        WEB.check(Wishes())
    assert str(caught.value) == (
        "--for web needs the files of onnxruntime-web 1.30.0; run: npm install --ignore-scripts "
        "--prefix web-runtime onnxruntime-web@1.30.0 and pass --web-runtime "
        "web-runtime/node_modules/onnxruntime-web/dist"
    )


def test_all_files_that_are_wrong_are_named(runtime: Path) -> None:
    (runtime / "ort.wasm.min.mjs").write_text("of another version")
    (runtime / "ort-wasm-simd-threaded.wasm").unlink()
    expected = web_runtime.SHA256
    with pytest.raises(UsageError) as caught:
        WEB.check(Wishes(web_runtime=runtime))
    assert str(caught.value) == (
        f"--web-runtime {str(runtime)!r} | ort.wasm.min.mjs has SHA-256 "
        "8c76dad9d702256ddbf41f222ac4ccd34bfaeb648914ec2641345c448ce05104, expected "
        f"{expected['ort.wasm.min.mjs']}; ort-wasm-simd-threaded.wasm cannot be read (No such file "
        f"or directory), expected {expected['ort-wasm-simd-threaded.wasm']} | expected the files "
        f"of onnxruntime-web 1.30.0 | run: {web_runtime.COMMAND} and pass --web-runtime "
        f"{web_runtime.FOLDER}"
    )


def test_every_file_is_pinned() -> None:
    names = {
        name
        for files in web_runtime.BACKENDS.values()
        for name in (files.module, files.glue, files.binary)
    }
    assert names == set(web_runtime.SHA256)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in web_runtime.SHA256.values())


def test_the_pins_are_those_of_npm() -> None:
    assert set(web_runtime.runtime_files(real_runtime())) == set(web_runtime.SHA256)


def test_a_folder_that_is_there_is_left_alone(
    demo_bundle: Path, runtime: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "mine"
    kept.mkdir()
    (kept / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="mine' | exists"):
        write_site(demo_bundle, runtime, kept)
    assert [path.name for path in kept.iterdir()] == ["notes.txt"]


def test_a_bundle_without_the_graph(demo_bundle: Path, runtime: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(demo_bundle, tmp_path / "bundle")
    opened = Bundle.open(bundle)
    opened.manifest.graphs[:] = [one for one in opened.manifest.graphs if one.io == "tensor"]
    opened.write()
    with pytest.raises(BundleError, match="no fp32 graph of the 'image' form"):
        write_site(bundle, runtime, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_command_refuses_before_it_exports(tmp_path: Path) -> None:
    refused = command("export", "demo-denoise", "--for", "web", "-o", tmp_path / "site")
    assert refused.returncode == 2
    assert "npm install" in refused.stderr
    assert refused.stdout == ""
    assert not (tmp_path / "site").exists()


def test_the_command_writes_a_site(demo_bundle: Path, tmp_path: Path) -> None:
    runtime, site = real_runtime(), tmp_path / "site"
    done = command(
        "export", demo_bundle, "--for", "web", "--web-runtime", runtime, "-o", site
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{site}\n"), done.stderr
    assert (site / "index.html").is_file()
