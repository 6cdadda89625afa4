"""`maxim-deploy triton`: what it writes and prints, what a check finds, and exit codes."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bundles import write_identity_bundle
from click.testing import CliRunner, Result
from serving.kserve import ENDS, serving

import maxim_deploy
from maxim_deploy.cli.group import command_named, commands

pytest.importorskip("tritonclient.http", reason="pip install 'maxim-deploy[triton]'")

GUIDE = Path(maxim_deploy.__file__).parents[1] / "docs" / "guides" / "triton.md"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_identity_bundle(tmp_path / "bundle")


def triton(*args: object) -> Result:
    return CliRunner().invoke(commands, ["triton", *map(str, args)], catch_exceptions=False)


def test_a_version_and_then_nothing(bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = triton(bundle, "-o", models)
    assert first.exit_code == 0 and first.stdout == f"{models / 'tiny'}\n"
    assert first.stderr == "model 'tiny': version 1 is this bundle\n"
    again = triton(bundle, "-o", models, "--json")
    assert again.exit_code == 0 and json.loads(again.stdout) == {
        "folder": str(models / "tiny"), "version": 1, "change": "nothing",
    }  # fmt: skip
    assert "nothing was written" in again.stderr
    other = triton(bundle, "-o", models, "--delay", "2.5", "--queue", "0", "--gpus", "0,1")
    assert "its configuration is new" in other.stderr
    text = (models / "tiny" / "config.pbtxt").read_text()
    assert "max_queue_delay_microseconds: 2500" in text and "max_queue_size" not in text


def test_an_environment_that_is_here_or_on_the_server(bundle: Path, folder: Path) -> None:
    Path("venv").mkdir()
    for given, expected in (("venv", str(folder / "venv")), ("/opt/there", "/opt/there")):
        assert triton(bundle, "-o", "models", "--environment", given).exit_code == 0
        assert f'string_value: "{expected}"' in Path("models/tiny/config.pbtxt").read_text()


@pytest.mark.parametrize(
    "args, why",
    [
        ([], "give either -o REPOSITORY to write, or --check URL to check a server"),
        (["-o", "m", "--check", "localhost:8000"], "give either"),
        (["-o", "m", "--model", "x"], "--model has no meaning with -o; omit it"),
        (["--check", "localhost", "--max-batch", "2"], "--max-batch has no meaning with --check"),
        (
            ["-o", "m", "--gpus", "0,x"],
            "'0,x' | expected distinct indices of GPUs, such as 0,1",
        ),
        (["-o", "m", "--gpus", "1,1"], "'1,1' | expected distinct indices"),
        (["-o", "m", "--instances", "0"], "'0' | expected 'auto' or a number from 1"),
        (["-o", "m", "--max-memory", "much"], "--max-memory must be an amount"),
        (["-o", "m", "--size", "5"], "'5' is not a size; write HxW"),
        (["--check", "ftp://x"], "--check 'ftp://x' | expected a URL such as"),
        (["-o", "m", "--backend", "tensorrt", "--threads", "1"], "--threads is for instances"),
    ],
)
def test_usage(bundle: Path, folder: Path, args: list[str], why: str) -> None:
    result = triton(bundle, *args)
    assert result.exit_code == 2 and why in result.stderr
    assert not Path("m").exists()


def test_no_bundle(folder: Path) -> None:
    result = triton("nothing", "-o", "m")
    assert result.exit_code == 1 and "'nothing' is not a bundle" in result.stderr


class TestCheck:
    def test_equal(self, bundle: Path) -> None:
        with serving(lambda pictures: pictures) as url:
            result = triton(bundle, "--check", url)
        assert result.exit_code == 0, result.stderr
        lines = result.stdout.splitlines()
        assert [line.split(":")[0] for line in lines] == [
            "1x1", "33x70", "64x64", "256x256", "300x451",
        ]  # fmt: skip
        assert all(": equal, " in line for line in lines)

    def test_as_json(self, bundle: Path) -> None:
        with serving(lambda pictures: pictures) as url:
            result = triton(bundle, "--check", url, "--model", "tiny", "--size", "5x7", "--json")
        found = json.loads(result.stdout)
        assert found.pop("seconds") > 0
        assert found == {"height": 5, "width": 7, "max_levels": 0, "share": 0.0}

    @pytest.mark.parametrize(
        "restore, why",
        [
            (lambda pictures: pictures ^ 1, None),
            (lambda pictures: pictures ^ 2, "5x7 | the server's answer differs by up to 2 of 255"),
            (lambda pictures: np.zeros((0,), np.uint8), "the answer has no picture 'restored'"),
            (lambda pictures: pictures[:, :-1], "gave uint8 [4, 7, 3] for a picture of [5, 7, 3]"),
            (lambda _: "Stub process is not healthy.", "Stub process is not healthy. | look at"),
        ],
    )
    def test_answers(self, bundle: Path, restore, why: str | None) -> None:
        with serving(restore) as url:
            result = triton(bundle, "--check", url, "--size", "5x7")
        assert result.exit_code == (0 if why is None else 1)
        assert (why or "") in result.stderr and "Traceback" not in result.stderr

    def test_another_model(self, bundle: Path) -> None:
        with serving(lambda pictures: pictures) as url:
            result = triton(bundle, "--check", url, "--model", "other")
        assert result.exit_code == 1 and "model 'other' at http" in result.stderr

    def test_a_model_of_something_else(self, bundle: Path) -> None:
        ends = {**ENDS, "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}
        with serving(lambda pictures: pictures, ends) as url:
            result = triton(bundle, "--check", url)
        assert result.exit_code == 1 and "the model has 'x' FP32, 'restored' UINT8" in result.stderr

    def test_nobody_answers(self, bundle: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            result = triton(bundle, "--check", url)
        assert result.exit_code == 1 and "refused" in result.stderr.lower()

    def test_certificates_are_checked(self, bundle: Path, tmp_path: Path, monkeypatch) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl to make a certificate with")
        pem = tmp_path / "both.pem"
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
        subprocess.run([*made, "-keyout", pem, "-out", tmp_path / "c.pem"], check=True)
        with pem.open("a") as both:
            both.write((tmp_path / "c.pem").read_text())
        with serving(lambda pictures: pictures, certificate=pem) as url:
            refused = triton(bundle, "--check", url, "--size", "5x7")
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
            taken = triton(bundle, "--check", url, "--size", "5x7")
        assert refused.exit_code == 1 and "certificate" in refused.stderr.lower()
        assert taken.exit_code == 0, taken.stderr


def test_the_guide_names_options_that_there_are() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE.read_text()))
    ours = {name for param in command_named("triton").params for name in param.opts}
    others = {"--model-repository", "--shm-size", "--url", "--shared-memory"}
    assert named - others <= ours and "--check" in named
