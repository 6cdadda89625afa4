"""`maxim-export --engine` and `--inspect` as a user runs them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cli.commands import QUICK_EXPORT, command
from click.testing import CliRunner
from engines.bundles import tiny_graph, write_bundle

from maxim_deploy.cli.export import export as export_command
from maxim_deploy.errors import UsageError
from maxim_deploy.export import BundleSettings

pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")

RTX = ("--engine", "tensorrt-rtx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", tiny_graph())


def export(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    return command("export", *arguments, before=before)


def test_an_engine_for_a_bundle_that_is_there(bundle: Path) -> None:
    result = export(
        "-o", bundle, *RTX, "--profile", "64x64", "--profile", "720p", "--target", "8.9"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{bundle}\n"
    lines = result.stderr.splitlines()
    assert lines[:2] == ["parsing the graph", "building the engine"]
    (path,) = (bundle / "engines").glob("*.engine")
    assert path.name.startswith("fp16.image.tensorrt-rtx.64x64+720p.")
    assert lines[2].startswith(f"engines/{path.name}: built in ") and "capability 8.9" in lines[2]

    again = export("-o", bundle, *RTX, "--profile", "64x64", "--profile", "720p", "--target=8.9")
    assert again.returncode == 0 and "up to date, nothing to build" in again.stderr
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [engine["targets"] for engine in manifest["engines"]] == [["8.9"]]

    text = export("--inspect", bundle)
    assert text.returncode == 0 and text.stderr == ""
    for part in (
        "fp16.image.onnx: cpu form, opset 20",
        path.name,
        "profile 720p (704x1280 to 768x1280",
        "for compute capability 8.9",
        "memory as the builder reports it",
    ):
        assert part in text.stdout
    report = json.loads(export("--inspect", bundle, "--json").stdout)
    (engine,) = report["engines"]
    assert engine["file"] == f"engines/{path.name}" and engine["listed_layers"]


def test_traffic_is_counted_and_told(bundle: Path) -> None:
    arguments = ("-o", bundle, *RTX, "--profile", "64x64:96x128:256x256")
    assert export(*arguments).returncode == 0
    told = export("--inspect", bundle).stdout
    assert "only move data; bytes need a fixed size: build with --traffic" in told

    result = export(*arguments, "--traffic")
    assert result.returncode == 0, result.stderr
    assert "building for 96x128 only to count its traffic" in result.stderr.splitlines()
    (engine,) = json.loads((bundle / "export.json").read_text())["engines"].values()
    (traffic,) = engine["traffic"]
    assert traffic["shape"] == {"batch": 1, "height": 96, "width": 128}
    assert traffic["bytes_per_pixel"] > 6

    told = export("--inspect", bundle).stdout
    for part in (f"traffic at 96x128: {traffic['bytes_per_pixel']:.0f} bytes per pixel in ",
                 "by block: ", "by kind of work: ", "not a measurement: "):  # fmt: skip
        assert part in told
    (engine,) = json.loads(export("--inspect", bundle, "--json").stdout)["engines"]
    assert engine["traffic"] == [traffic] and engine["bounds"][0]
    assert {"inputs", "outputs", "constants"} <= engine["listed_layers"][0].keys()


def test_a_damaged_export_record(bundle: Path) -> None:
    """--inspect says all the rest, and an engine is not built only to lose its record."""
    before = (bundle / "manifest.json").read_bytes()
    (bundle / "export.json").write_text("{")
    for options in ([], ["--json"]):
        inspected = CliRunner().invoke(export_command, ["--inspect", str(bundle), *options])
        assert inspected.exit_code == 1 and "fp16.image.onnx" in inspected.stdout
        assert "export.json is damaged" in inspected.stdout and "delete it" in inspected.stderr
    built = CliRunner().invoke(export_command, ["-o", str(bundle), *RTX, "--profile", "64x64"])
    assert built.exit_code == 1 and "export.json is damaged" in built.stderr
    assert (bundle / "manifest.json").read_bytes() == before

    (bundle / "export.json").unlink()
    inspected = CliRunner().invoke(export_command, ["--inspect", str(bundle)])
    assert inspected.exit_code == 0 and "exported: unknown" in inspected.stdout


def test_a_recipe_and_options_over_it(bundle: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[engine]\nlibrary = 'tensorrt-rtx'\nprofiles = ['4k']\ntargets = ['8.6']\n")
    result = export("-o", bundle, "--recipe", recipe, "--profile", "64x64", "--json")
    assert result.returncode == 0, result.stderr
    (engine,) = json.loads(result.stdout)["engines"]
    assert [profile["name"] for profile in engine["profiles"]] == ["64x64"]
    assert engine["targets"] == ["8.6"]


def test_building_needs_neither_torch_nor_onnx(bundle: Path) -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'onnx_ir', 'onnxruntime']))"
        "\nfrom maxim_deploy.cli.main import export; export()"
    )
    import sys

    arguments = ["-o", str(bundle), *RTX, "--profile", "64x64"]
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([*RTX], 2, "an engine needs at least one profile: a name (720p, 720p-portrait, "),
        ([*RTX, "--profile", "108p"], 2, "unknown profile '108p' (did you mean '1080p'?)"),
        ([*RTX, "--profile", "64x64", "--io", "tensor"], 1, "has no fp16 graph of the"),
        ([*RTX, "--profile", "65x64", "--io", "tensor"], 2, "multiples of 64, not 65; the next is"),
        ([*RTX, "--profile", "64x64", "--target", "9.0"], 2, "from: 7.5, 8.0, 8.6, 8.9, 12.0"),
        ([*RTX, "--profile", "64x64", "--timing-cache", "x"], 2, "a timing cache has no effect"),
        ([*RTX, "--profile", "64x64", "--budget", "soon"], 2, "--budget must be an amount such as"),
        ([*RTX, "--profile", "64x64", "--workspace", "1kB"], 1, "what to do: a layer needs more"),
        (["--engine", "trt", "--profile", "64x64"], 2, "unknown engine library 'trt'"),
        (["--engine", "tensorrt", "--profile", "64x64"], 2, "pip install 'maxim-deploy[tensorrt]'"),
        (["--profile", "64x64", "--tf32"], 2, "--profile, --tf32: only for an engine; name its"),
        (["--budget", "5m"], 2, "--budget: only for an engine; name its library with --engine"),
        (["--traffic"], 2, "--traffic: only for an engine; name its library with --engine"),
        ([*RTX, "--profile", "64x64", "--variant", "S-2", "--no-verify"], 2,
         "--variant, --no-verify: for an export; name a MODEL"),
    ],
)  # fmt: skip
def test_bad_input(bundle: Path, arguments: list[str], code: int, message: str) -> None:
    result = export("-o", bundle, *arguments)
    assert message in result.stderr and result.returncode == code
    assert "Traceback" not in result.stderr and result.stdout == ""
    assert list(bundle.glob("engines/*.engine")) == []


def test_more_bad_input(bundle: Path, tmp_path: Path) -> None:
    result = export(*RTX, "--profile", "64x64")
    assert result.returncode == 2 and "name the directory to write with -o BUNDLE" in result.stderr
    result = export("--inspect", tmp_path / "none")
    assert result.returncode == 1 and "is not a bundle: no such directory" in result.stderr
    result = export("demo-denoise", "-o", bundle, *RTX, "--profile", "64x64")
    assert result.returncode == 1 and "was made from another checkpoint" in result.stderr
    arguments = ["demo-denoise", "-o", tmp_path / "b", "--precision", "fp32", "--io", "tensor"]
    recipe = tmp_path / "r.toml"
    recipe.write_text("[engine]\nlibrary = 'tensorrt-rtx'\nprofiles = ['photo']\nprecison = 'fp16'")
    result = export(*arguments, "--recipe", recipe)
    assert result.returncode == 2 and "'precison' (did you mean 'precision'?)" in result.stderr


@pytest.mark.slow
def test_export_and_engine_in_one_call(kept_traces: None, tmp_path: Path) -> None:
    bundle = tmp_path / "b"
    arguments = ["demo-denoise", "-o", bundle, "--precision", "fp16", "--io", "image"]
    arguments += [*RTX, "--profile", "64x64", "--budget", "5m"]
    first = export(*arguments, before=QUICK_EXPORT)
    assert first.returncode == 0, first.stderr
    assert "tracing" in first.stderr and "building the engine" in first.stderr
    again = export(*arguments)
    assert again.returncode == 0 and "tracing" not in again.stderr
    assert "up to date, nothing to build" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["--profile", "64x64"], "auto"),
        (["--profile", "64x64", "--profile", "720p"], "auto-range"),
        (["--profile", "720p", "--form", "gpu"], "gpu"),
    ],
)
def test_an_engine_for_a_range_has_its_own_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], form: str
) -> None:
    def stop(asked: object, output: object, settings: BundleSettings, **more: object) -> None:
        forms.append(settings.form)
        raise UsageError("far enough")

    forms: list[str] = []
    monkeypatch.setattr("maxim_deploy.cli.export._export", stop)
    whole = ["demo-denoise", "-o", str(tmp_path / "b"), *RTX, *arguments]
    assert CliRunner().invoke(export_command, whole).exit_code == 2
    assert forms == [form]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*RTX, "--budget", "soon"], "--budget must be an amount such as"),
        ([*RTX, "--target", "9.0"], "choose from: 7.5, 8.0, 8.6, 8.9, 12.0"),
        ([*RTX, "--timing-cache", "x"], "a timing cache has no effect"),
        ([*RTX, "--precision", "fp32", "--io", "tensor", "--profile", "1x1"], "multiples of 64"),
        (["--engine", "tensorrt"], "pip install 'maxim-deploy[tensorrt]'"),
    ],
)
def test_bad_input_is_told_before_an_export(tmp_path: Path, arguments, message: str) -> None:
    result = export("demo-denoise", "-o", tmp_path / "new", *arguments, "--profile", "64x64")
    assert result.returncode == 2 and message in result.stderr, result.stderr
    assert "tracing" not in result.stderr and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name, message",
    [
        ("bundel", "bundel' is not a bundle: no such directory. Make one with: maxim-export MODEL"),
        ("b" * 300, "cannot read the bundle"),
    ],
)
def test_an_engine_for_a_bundle_that_is_not_there(tmp_path: Path, name: str, message: str) -> None:
    result = export("-o", tmp_path / name, *RTX, "--profile", "64x64")
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
