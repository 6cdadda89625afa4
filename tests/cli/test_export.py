"""`maxim-export` and `maxim-deploy demo` as a user runs them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from cli.commands import QUICK_EXPORT, ROOT, command
from click.testing import CliRunner

from maxim_deploy.cli import main
from maxim_deploy.cli.export import export
from maxim_deploy.errors import BundleError
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.export_record import command_without_folders

SMALL = Architecture(features=4, stages=1, groups=1, bottleneck_blocks=1)


@pytest.mark.slow
def test_demo(kept_traces: None, tmp_path: Path) -> None:
    result = command("main", "demo", "-o", tmp_path / "out", before=QUICK_EXPORT)
    assert result.returncode == 0, result.stderr
    written = [Path(line) for line in result.stdout.splitlines()]
    names = [path.name for path in written]
    assert names[0] == "demo-denoise" and names[-2:] == ["before-after.png", "report.html"]
    assert all(path.exists() for path in written)

    again = command("main", "demo", "-o", tmp_path / "out")  # nothing is exported twice
    assert again.returncode == 0 and "tracing" not in again.stderr


@pytest.mark.slow
def test_weights_of_ones_own_with_json(kept_traces: None, tmp_path: Path) -> None:
    weights = tmp_path / "mine.npz"
    np.savez(weights, **reference.published(reference.parameters(SMALL)))
    bundle = tmp_path / "bundle"
    options = ["--checkpoint", weights, "-o", bundle, "--precision", "fp32", "--no-source"]
    result = command("export", *options, "--json", before=QUICK_EXPORT)
    assert result.returncode == 0, result.stderr
    manifest = json.loads(result.stdout)
    assert manifest == json.loads((bundle / "manifest.json").read_text())
    assert manifest["architecture"]["features"] == 4 and manifest["source"] is None
    assert manifest["model"]["name"] == "mine" and manifest["model"]["source"] == "mine.npz"
    record = (bundle / "export.json").read_text()
    assert "--checkpoint mine.npz -o bundle" in json.loads(record)["command"]
    everything = b"".join(path.read_bytes() for path in bundle.iterdir())
    assert str(tmp_path).encode() not in everything and not (bundle / "LICENSE").exists()
    assert "features 4, stages 1" in result.stderr and "of PyTorch" in result.stderr
    assert not (bundle / "source.safetensors").exists()

    again = command("export", *options)
    assert again.returncode == 0 and "up to date, nothing to do" in again.stderr
    assert again.stdout == f"{bundle}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a model (demo-denoise, denoising-sidd"),
        (["demo-denois"], "unknown model 'demo-denois' (did you mean 'demo-denoise'?)"),
        (["demo-denoise", "--variant", "S3"], "unknown variant 'S3' (did you mean 'S-3'?)"),
        (
            ["demo-denoise", "--precision", "fp31"],
            "unknown precision 'fp31' (did you mean 'fp32'?)",
        ),
        (["demo-denoise", "--io", ","], "no I/O form is chosen"),
        (["demo-denoise", "--recipe", "none.toml"], "recipe 'none.toml'"),
        (
            ["demo-denoise", "--literal", "--precision", "fp32,fp16"],
            "literal form is exported in fp32 only, for comparison; pass --precision fp32",
        ),
        (["demo-denoise", "--precision-table", "none.json"], "precision table 'none.json'"),
        (["--nonsense"], "No such option"),
        (
            ["demo-denoise", "--license", "x"],
            "--license: demo-denoise has its own licence, Apache-2.0",
        ),
        (
            ["--checkpoint", "x.npz", "--license", "none.txt"],
            "--license 'none.txt' | cannot be read",
        ),
    ],
)
def test_usage_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = command("export", *arguments, "-o", tmp_path / "out")
    assert result.returncode == 2 and message in result.stderr, result.stderr
    assert result.stdout == "" and not (tmp_path / "out").exists()


def test_failures(tmp_path: Path, demo_bundle: Path) -> None:
    wrong_variant = command("export", "demo-denoise", "--variant", "S-2", "-o", tmp_path / "out")
    assert wrong_variant.returncode == 1
    assert "features 8" in wrong_variant.stderr and "S-2" in wrong_variant.stderr

    absent = command("export", "--checkpoint", tmp_path / "none.npz", "-o", tmp_path / "out")
    assert absent.returncode == 1 and "none.npz" in absent.stderr

    (tmp_path / "file").touch()
    below_a_file = command("export", "demo-denoise", "-o", tmp_path / "file" / "out")
    assert below_a_file.returncode == 1 and "cannot write the bundle" in below_a_file.stderr
    other = tmp_path / "mine.npz"
    np.savez(other, **reference.published(reference.parameters(SMALL)))
    differs = command("export", "--checkpoint", other, "-o", demo_bundle)
    assert differs.returncode == 1 and "another checkpoint" in differs.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"file", "mine.npz"}


def test_no_network_says_where_the_file_goes(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    result = command(
        "export", "deblurring-gopro", "-o", tmp_path / "out",
        MAXIM_DEPLOY_CACHE=str(tmp_path / "cache"), https_proxy=nowhere, HTTPS_PROXY=nowhere,
    )  # fmt: skip
    assert result.returncode == 1
    assert "maxim/ckpt/Deblurring/GoPro/checkpoint.npz" in result.stderr
    assert str(tmp_path / "cache" / "deblurring-gopro") in result.stderr
    assert "--checkpoint" in result.stderr and "Traceback" not in result.stderr


def test_missing_torch_is_a_pip_line(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from maxim_deploy.cli.main import export; export()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "demo-denoise", "-o", tmp_path / "out"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 2
    assert "torch is not installed; run: pip install 'maxim-deploy[export]'" in result.stderr


@pytest.mark.parametrize("start", ["maxim-export", "maxim-deploy -v export"])
def test_the_record_gets_the_command_line_without_folders(monkeypatch, start: str) -> None:
    seen = []

    def export_bundle(*_, command: str, **__) -> None:
        seen.append(command)
        raise BundleError("that is enough")

    monkeypatch.setattr("maxim_deploy.export.export_bundle", export_bundle)
    arguments = [*start.split(), "demo-denoise", "-o", "/home/me/a b/"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        (main.export if start == "maxim-export" else main.main)()
    assert seen == [f"{start} demo-denoise -o 'a b'"]


@pytest.mark.parametrize(
    ("argument", "kept"),
    [
        ("../a/x.npz", "x.npz"), ("/home/me/build/", "build"), (r"C:\me\x.npz", "x.npz"),
        ("--recipe=/home/me/r.toml", "--recipe=r.toml"), ("-o/tmp/b", "-ob"), ("-ob", "-ob"),
        (".", "."), ("/", "/"), ("-o", "-o"), ("--json", "--json"), ("", ""),
        ("64x64:96x128:256x256@1", "64x64:96x128:256x256@1"), ("fp32,fp16", "fp32,fp16"),
    ],
)  # fmt: skip
def test_folders_stay_out_of_the_record(argument: str, kept: str) -> None:
    command = command_without_folders(["maxim-export", argument])
    assert shlex.split(command) == ["maxim-export", kept]


def test_console_scripts_exist() -> None:
    from importlib.metadata import entry_points

    scripts = {
        entry.name: entry.load()
        for entry in entry_points(group="console_scripts")
        if entry.value.startswith("maxim_deploy.")
    }
    assert scripts == {
        "maxim-deploy": main.main, "maxim-export": main.export, "maxim-run": main.run,
        "maxim-bench": main.bench, "maxim-parity": main.parity, "maxim-doctor": main.doctor,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("digits", "code", "message"),
    [
        ("0" * 64, 1, "its SHA-256 is [0-9a-f]{64}, expected is 0000"),
        ("abc", 2, "--sha256 must be 64 hexadecimal digits, not 'abc'"),
    ],
)
def test_weights_are_pinned(folder: Path, digits: str, code: int, message: str) -> None:
    result = CliRunner().invoke(export, ["demo-denoise", "--sha256", digits, "-o", "bundle"])
    assert result.exit_code == code and re.search(message, result.stderr)
    assert list(folder.iterdir()) == []
