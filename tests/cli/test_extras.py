"""Every command with every set of extras: it works, or its message is the pip line."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.samples import record
from bundles import write_identity_bundle
from cli.extras import (
    EXTRAS,
    PROJECT,
    ROOT,
    modules_by_distribution,
    modules_of,
    modules_without,
    normal,
    run_with,
)
from packaging.requirements import Requirement
from parity.networks import write_bundle

from maxim_deploy import _optional
from maxim_deploy.benchmarks.records import line_of
from maxim_deploy.imaging.files import write_image

RUNTIME, GRAPHS, TORCH = {"onnxruntime"}, {"onnx", "onnx_ir"}, {"torch", "safetensors"}
BENCH = {"psutil", "onnx"}
SMALL = ("--size", "64x64")
MEASURE = ("bench", "B", *SMALL, "--precision", "fp32", "--rounds", "1")

NEEDS: dict[tuple[str, ...], set[str]] = {
    ("run", "B", "set/input", "-o", "OUT/run"): RUNTIME,
    ("run", "B", "set/input", "-o", "OUT/torch", "--backend", "torch"): TORCH,
    ("run", "B", "set/input", "-o", "OUT/openvino", "--backend", "openvino"): {"openvino"},
    ("run", "B", "s3://bucket/a.png", "-o", "OUT/objects"): {"fsspec", "s3fs"},
    ("run", "B", "https://host/a.png", "-o", "OUT/web"): {"fsspec", "aiohttp"},
    ("run", "B", "set/input", "-o", "OUT/ray", "--ray", "local"): RUNTIME | {"ray"},
    ("export", "--inspect", "B"): set(),
    ("export", "demo-denoise", "-o", "OUT/bundle"): TORCH | GRAPHS | RUNTIME | {"onnxscript"},
    ("demo", "-o", "OUT/demo"): TORCH | GRAPHS | RUNTIME | {"onnxscript"},
    (*MEASURE, "--layers", "--report", "OUT/r.html"): RUNTIME | BENCH | {"matplotlib", "jinja2"},
    (*MEASURE, "--against", "torch"): RUNTIME | BENCH | TORCH,
    (*MEASURE, "--against", "literal"): RUNTIME | BENCH | TORCH | GRAPHS,
    ("bench", "--suite", "suite.toml"): RUNTIME | BENCH | TORCH | GRAPHS,
    ("bench", "--render", "records.jsonl"): set(),
    ("accept", "--list"): set(),
    ("serve", "B", "--port", "0"): RUNTIME | {"starlette", "uvicorn", "prometheus_client"},
    ("triton", "B", "-o", "OUT/models"): RUNTIME | {"tritonclient"},
    ("bench", "--render", "records.jsonl", "--report", "OUT/b.html"): {"matplotlib", "jinja2"},
    ("parity", "B", *SMALL): RUNTIME | GRAPHS | TORCH,
    ("parity", "B:fp32", "B:fp16", *SMALL): RUNTIME | GRAPHS,
    ("parity", "B:literal", "B:deployment", *SMALL): TORCH,
    ("parity", "B:onnxruntime", "B:onnxruntime.fp32"): RUNTIME,
    ("parity", "set/input", "set/target", "--rounding", "nearest"): set(),
    ("parity", "B:literal", "B:deployment", "--locate"): TORCH,
    ("parity", "B", "--locate"): RUNTIME | GRAPHS | TORCH,
    ("parity", "H:fp32", "H:fp32", "--locate"): RUNTIME | GRAPHS,
    ("parity", "H:fp32", "H:fp32", "--locate", "--maps", "OUT"): RUNTIME | GRAPHS | {"matplotlib"},
    ("parity", "H", "--bisect", "--images", "set/input", *SMALL): RUNTIME | GRAPHS,
    ("parity", "B", "--dataset", "set"): RUNTIME,
    ("parity", "B:fp16", "--dataset", "set"): RUNTIME | GRAPHS,
}
"""Commands with the modules that they cannot do without."""

ONLY_REFUSED = (
    ("export", "demo-denoise"),
    ("demo",),
    (*MEASURE, "--against"),
    ("bench", "--suite"),
    ("parity", "B", "--locate"),
    ("serve",),
)
"""Beginnings of commands that are not run where they have all that they need: other tests do."""

SLOW = ("export", "cpu+bench", "cpu+export")

FILE_BY_FILE = {"clip.mp4": "av", "deep.png": "imagecodecs"}
"""Files that need more than the others; they alone fail, and the exit code is 1."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the commands read."""
    folder = tmp_path_factory.mktemp("extras")
    write_identity_bundle(folder / "B")
    write_bundle(folder / "H")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("input", "target"):
        (folder / "set" / name).mkdir(parents=True)
        write_image(folder / "set" / name / "a.png", picture)
    write_image(folder / "deep.png", picture.astype(np.uint16) * 257)
    (folder / "clip.mp4").write_bytes(b"not a video")
    (folder / "records.jsonl").write_text(line_of(record()) + "\n")
    (folder / "suite.toml").write_text(
        '[quick]\nmodels = ["demo-denoise"]\nbackends = ["onnxruntime"]\n'
    )
    return folder


@pytest.mark.parametrize(
    "extras",
    [
        "", "cpu", "openvino", "gpu", "bench", "rtx", "tensorrt", "pycuda", "cpu+video", "cpu+hdr",
        "serve",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    ],
)  # fmt: skip
def test_every_command_works_or_says_the_pip_line(
    folder: Path, tmp_path: Path, monkeypatch, extras: str
) -> None:
    monkeypatch.chdir(folder)
    chosen = extras.split("+") if extras else []
    blocked = modules_without(chosen)
    needs = {
        tuple(word.replace("OUT", str(tmp_path)) for word in command): modules & blocked
        for command, modules in NEEDS.items()
        if modules & blocked or all(command[: len(few)] != few for few in ONLY_REFUSED)
    }
    files = {("run", "B", file, "-o", str(tmp_path / file)): {module} & blocked
             for file, module in FILE_BY_FILE.items() if "onnxruntime" not in blocked}  # fmt: skip
    commands = [*map(list, {**needs, **files, ("doctor",): set()})]  # type: ignore[misc]
    for ended in run_with(chosen, commands, tmp_path):
        shown = f"{ended}\n{ended.err}"
        assert "this is a bug" not in ended.err and "Traceback" not in ended.err, shown
        advice = set(re.findall(r"([\w.]+) is not installed; run: pip install '", ended.err))
        command = tuple(ended.args)
        if command == ("doctor",):
            assert ended.code == (1 if {"onnxruntime", "openvino"} <= blocked else 0), shown
        elif command in files:
            assert advice == files[command] and (ended.code == 1 or not advice), shown
        elif not needs[command]:
            assert ended.code == 0 and not advice, shown
        else:
            assert advice and advice <= blocked, shown
            # A subject of maxim-bench that cannot be loaded has a record, and the others go on.
            is_record = command[0] == "bench" and needs[command] == {"onnxruntime"}
            assert ended.code == (1 if is_record else 2), shown


def test_the_modules_of_extras() -> None:
    """The table that messages are made of says what pyproject.toml does, and knows every import."""
    for extra, known in _optional.EXTRAS.items():
        names = [normal(Requirement(text).name) for text in EXTRAS[extra]]
        # Some are for other machines: nobody knows their modules here.
        if all(name in modules_by_distribution() for name in names):
            assert set(known) <= modules_of(EXTRAS[extra]), extra
    table = {module for known in _optional.EXTRAS.values() for module in known}
    known = table | modules_of(PROJECT["dependencies"]) | sys.stdlib_module_names
    for path in (ROOT / "maxim_deploy").rglob("*.py"):
        found = {module.partition(".")[0] for module in imports_of(path)}
        assert found <= known | {"maxim_deploy"}, path


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found
