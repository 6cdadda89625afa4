"""`maxim-export --for HOST`: what it is made from, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from bundles import write_identity_bundle
from click.testing import CliRunner, Result

from maxim_deploy.checkpoints import read_checkpoint
from maxim_deploy.cli import _hosts
from maxim_deploy.cli.export import export
from maxim_deploy.hosts.table import HOSTS


def maxim_export(*arguments: object) -> Result:
    return CliRunner().invoke(export, [str(one) for one in arguments])


@pytest.fixture
def bundle(folder: Path) -> Path:
    """A bundle whose graphs give back the picture: fp32 tensor, fp16 tensor and fp32 image."""
    return write_identity_bundle(folder / "tiny")


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def traced(*_: Any, **__: Any) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr("maxim_deploy.export.tracing.torch.onnx.export", traced)


WRITTEN = {
    "vapoursynth": {"tiny.fp32.onnx", "tiny.fp16.onnx", "restore.vpy", "README.md"},
    "chainner": {"tiny.fp32.onnx", "tiny.fp16.onnx", "README.md"},
    "darktable": {"denoise-maxim-tiny.dtmodel", "README.md"},
    "comfyui": {"tiny.safetensors", "maxim-spandrel", "README.md"},
    "hub": {"onnx", "model.safetensors", "README.md"},
}


@pytest.mark.parametrize("host", WRITTEN)
def test_from_a_bundle_nothing_is_traced(no_trace: None, bundle: Path, host: str) -> None:
    result = maxim_export(bundle, "--for", host, "-o", "out/deep")
    assert (result.exit_code, result.stdout) == (0, "out/deep\n"), result.output
    assert {path.name for path in Path("out/deep").iterdir()} == WRITTEN[host]
    assert [path.name for path in Path("out").iterdir()] == ["deep"]


def test_weights_of_a_model_need_no_trace(no_trace: None, folder: Path) -> None:
    result = maxim_export("demo-denoise", "--for", "comfyui", "-o", "out")
    assert result.exit_code == 0, result.output
    checkpoint = read_checkpoint("out/demo-denoise.safetensors")
    assert checkpoint.descriptor.task == "denoising"
    assert Path("out/LICENSE").is_file()


REFUSED = {
    "unknown host 'krita'": ["tiny", "--for", "krita"],
    "known: vapoursynth, chainner, darktable, comfyui, web, hub": ["tiny", "--for", "gimp"],
    "--for darktable cannot take --precision bf16; it takes fp32, fp16": [
        "tiny", "--for", "darktable", "--precision", "bf16",
    ],
    "--for darktable takes one precision, not fp32,fp16; choose one of fp32, fp16": [
        "tiny", "--for", "darktable", "--precision", "fp32,fp16",
    ],
    "--for hub cannot take --io-type fp16; it takes fp32": [
        "tiny", "--for", "hub", "--io-type", "fp16",
    ],
    "--for hub cannot take --web-runtime; these can: web": [
        "tiny", "--for", "hub", "--web-runtime", "dist",
    ],
    "--io: for a bundle; omit it with --for": ["tiny", "--for", "hub", "--io", "planar"],
    "--force, --json: for a bundle": ["tiny", "--for", "hub", "--force", "--json"],
    "--form: for an export; a bundle is there": ["tiny", "--for", "hub", "--form", "gpu"],
    "--single-file: for a bundle": ["demo-denoise", "--for", "hub", "--single-file"],
    "unknown model 'tyni'": ["tyni", "--for", "hub"],
    "name a model": ["--for", "hub"],
    "--web-runtime: for a host; name it with --for": ["demo-denoise", "--web-runtime", "dist"],
    "--io-type fp16 is for the planar form": ["demo-denoise", "--io-type", "fp16"],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_usage(bundle: Path, message: str) -> None:
    result = maxim_export(*REFUSED[message], "-o", "out")
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not Path("out").exists()


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_what_is_there_stays(bundle: Path, there: str) -> None:
    out = Path("out")
    if there == "file":
        out.write_text("mine")
    elif there == "folder":
        out.mkdir()
        (out / "mine").touch()
    else:
        out.symlink_to("nowhere")
    result = maxim_export(bundle, "--for", "chainner", "-o", out)
    assert result.exit_code == 2 and "output 'out' | exists | choose another name" in result.stderr


def test_an_empty_folder_is_filled(bundle: Path) -> None:
    Path("out").mkdir()
    assert maxim_export(bundle, "--for", "chainner", "-o", "out").exit_code == 0


def test_what_the_bundle_lacks(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    lacking = shutil.copytree(bundle, bundle.with_name("lacking"))
    without = {**manifest, "graphs": manifest["graphs"][2:], "source": None}
    (lacking / "manifest.json").write_text(json.dumps(without))
    result = maxim_export(lacking, "--for", "chainner", "-o", "out")
    assert result.exit_code == 1 and "has no fp32 graph of the 'tensor' form" in result.stderr
    assert "it has: fp32 image. Export it again with --precision fp32 --io tensor" in result.stderr
    result = maxim_export(lacking, "--for", "comfyui", "-o", "out")
    assert result.exit_code == 1 and "export it again without --no-source" in result.stderr
    result = maxim_export(bundle, "--for", "vapoursynth", "--precision", "bf16", "-o", "out")
    assert result.exit_code == 1 and "has no bf16 graph of the 'tensor' form" in result.stderr
    (bundle / "fp32.tensor.onnx").write_bytes(b"")
    result = maxim_export(bundle, "--for", "chainner", "-o", "out")
    assert result.exit_code == 1 and "fp32.tensor.onnx" in result.stderr
    assert not Path("out").exists() and not list(Path.cwd().glob(".out*"))


def test_a_missing_extra_is_a_pip_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(extra: str) -> None:
        from maxim_deploy._optional import not_installed

        raise not_installed("onnx", extra)

    monkeypatch.setattr(_hosts, "require_extra", missing)
    result = maxim_export(bundle, "--for", "chainner", "-o", "out")
    assert result.exit_code == 2
    assert "onnx is not installed; run: pip install 'maxim-deploy[export]'" in result.stderr


def test_every_host_has_a_row_and_a_file() -> None:
    folder = Path(_hosts.__file__).parents[1] / "hosts"
    assert set(HOSTS) == {*WRITTEN, "web"}
    assert all((folder / f"{name}.py").is_file() for name in WRITTEN)
