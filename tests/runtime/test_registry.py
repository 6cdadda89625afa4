"""The table of backends: nothing else lists them, and other distributions add to it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import maxim_deploy
from maxim_deploy import BackendError, UsageError
from maxim_deploy.runtime import registry
from maxim_deploy.runtime.registry import BACKENDS, BackendSpec, backend_label, backend_named
from maxim_deploy.spec.engine_libraries import ENGINE_LIBRARIES

PACKAGE = Path(maxim_deploy.__file__).parent
HERE = Path(__file__).parent

# Backends, engine libraries, Python modules, pip packages and extras share some names.
NO_BACKENDS = {
    "_optional.py": "Python modules that the extras bring",
    "spec/engine_libraries.py": "engine libraries, which the rows of their backends are made from",
    "graph/tensorrt_parse.py": "the engine library that parses",
    "machine/facts.py": "pip packages whose versions a record has",
    "machine/onnxruntime.py": "the Python module whose environment matters",
    "machine/openvino.py": "the Python module, and the package that reports to its maker",
    "runtime/names.py": "the names for type checkers, which a test compares with the table",
    "runtime/openvino_cache.py": "a folder of the cache",
    "runtime/doctor.py": "pip packages that must not stand side by side",
    "cli/export.py": "Python modules that an export needs",
    "benchmarks/ceilings.py": "pip packages, in the name of the library that was measured",
    "export/tuned.py": "the library that a graph is rewritten for",
    "benchmarks/folder_lanes.py": "the backend whose lanes are measured",
    "benchmarks/recommend.py": "the reference, which is for comparison only",
    "benchmarks/subjects.py": "baselines",
    "benchmarks/suite_run.py": "Python modules that an export needs",
    "benchmarks/tables.py": "baselines",
    "benchmarks/report/overview.py": "baselines",
    "benchmarks/rewrites.py": "the engine library that builds without a GPU",
    "accept/loading.py": "the reference that the CPU's backend is compared with",
    "accept/building.py": "engine libraries, with settings that only one of them has",
    "serving/ray_workers.py": "the reference, which has no place among workers",
    "serving/triton/engines.py": "engine libraries, one of which Triton has",
    "cli/triton.py": "backends of Triton, some of which have names of ours",
    "serving/triton/options.py": "backends of Triton, some of which have names of ours",
    "serving/triton/settings.py": "a backend of Triton",
    "serving/triton/version.py": "backends of Triton, and the library that measures lanes for one",
}


def quoted(path: Path) -> set[str]:
    """The strings of a module, without docstrings and what `require` and `version` are given."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        called = node.func if isinstance(node, ast.Call) else None
        name = getattr(called, "id", None) or getattr(called, "attr", None)
        if isinstance(node, ast.Call) and name in ("require", "version"):
            skipped |= {id(argument) for argument in node.args}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in skipped
    }


def test_no_other_module_quotes_a_backend() -> None:
    names = {spec.name for spec in BACKENDS}
    functions = [s.opener for s in BACKENDS] + [s.profiler for s in BACKENDS if s.profiler]
    own = {str(function).partition(":")[0].replace(".", "/") + ".py" for function in functions}
    found = {}
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE).as_posix()
        if file != "runtime/registry.py" and f"maxim_deploy/{file}" not in own:
            found |= {file: quoted(path) & names} if quoted(path) & names else {}
    assert found.keys() <= NO_BACKENDS.keys(), found


def test_rows_are_whole() -> None:
    for spec in BACKENDS:
        assert spec.label and spec.extra and spec.package
        for role in ("opener", "probe", "graph_opener"):
            if getattr(spec, role):
                assert callable(spec.function(role)), (spec.name, role)
    assert {s.name for s in BACKENDS if s.runs == "engines"} == ENGINE_LIBRARIES.keys()


def test_a_label_needs_no_backend() -> None:
    assert backend_label("onnxruntime") == "ONNX Runtime, CPU"
    assert backend_label("of-somebody-else") == "of-somebody-else"


def test_what_a_foreign_backend_raises_names_its_distribution() -> None:
    def opener(_: object) -> None:
        raise ZeroDivisionError("by zero")

    ours, foreign = (BackendSpec("x", opener, distribution=d) for d in (None, "their-x 1.0"))
    with pytest.raises(ZeroDivisionError):
        ours.call("opener", None)
    with pytest.raises(BackendError, match="'x' of their-x 1.0 does not work: ZeroDivisionError"):
        foreign.call("opener", None)


# ------------------------------------------------------------------ other distributions


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two distributions with backends are installed, a good and a broken one."""
    folder = tmp_path_factory.mktemp("site")
    sources = []
    for name in ("toy_backend", "broken_backend"):
        source = tmp_path_factory.mktemp("source") / name
        sources.append(str(shutil.copytree(HERE / name, source)))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    offline = ["--no-index", "--disable-pip-version-check", "--target", str(folder), *sources]
    subprocess.run([*pip, *offline], check=True, capture_output=True)
    return folder


@pytest.fixture
def here(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process."""
    monkeypatch.syspath_prepend(installed)
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()


def command(installed: Path, name: str, *args: object) -> subprocess.CompletedProcess[str]:
    code = f"from maxim_deploy.cli.main import {name}; {name}()"
    path = os.pathsep.join([str(installed), str(PACKAGE.parent)])
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_load_takes_it_by_name_only(here: None, demo_bundle: Path) -> None:
    with maxim_deploy.load(demo_bundle, backend="toy") as restorer:
        assert (restorer.info.backend, restorer.info.sizes) == ("toy", "any")
        assert restorer.plan(64, 64).bytes > 10_000 * 64 * 64
    with maxim_deploy.load(demo_bundle) as restorer:
        assert restorer.info.backend != "toy" and "toy" not in restorer.info.not_taken
    with pytest.raises(UsageError, match=r"unknown backend 'toi' \(did you mean 'toy'\?\)"):
        maxim_deploy.load(demo_bundle, backend="toi")
    assert backend_named("toy").distribution == "maxim-deploy-toy 1.2"
    assert backend_label("toy") == "Toy"


def test_a_broken_one_is_an_error_that_names_its_distribution(here: None, demo_bundle) -> None:
    with pytest.raises(
        BackendError,
        match=r"'broken' of maxim-deploy-broken 0\.3 does not work: OSError: libbroken",
    ):
        maxim_deploy.load(demo_bundle, backend="broken")
    assert backend_label("broken") == "broken"


def test_maxim_run(installed: Path, demo_bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (70, 50), (90, 120, 30)).save(tmp_path / "a.png")
    results = []
    for name in ("toy", "onnxruntime"):
        target = tmp_path / f"{name}.png"
        done = command(
            installed, "run", demo_bundle, tmp_path / "a.png", "-o", target, "--backend", name
        )
        assert done.returncode == 0, done.stderr
        results.append(target.read_bytes())
    assert results[0] == results[1]
    done = command(
        installed, "run", demo_bundle, tmp_path / "a.png", "-o", target, "--backend", "broken"
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Error: backend 'broken' of maxim-deploy-broken 0.3 does not work" in done.stderr


def test_maxim_parity(installed: Path, demo_bundle: Path) -> None:
    stages = (f"{demo_bundle}:toy", f"{demo_bundle}:fp32")
    done = command(installed, "parity", *stages, "--size", "64x64", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines and all(line["passed"] for line in lines)
    assert lines[0]["stages"]["a"]["backend"] == "toy"


def test_maxim_bench(installed: Path, demo_bundle: Path, tmp_path: Path) -> None:
    options = ("--backend", "toy", "--size", "64x64", "--precision", "fp32", "--rounds", "2")
    done = command(installed, "bench", demo_bundle, *options, "--cache", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    (record,) = (json.loads(line) for line in done.stdout.splitlines())
    assert (record["subject"], record["runner"], record["device"]) == ("toy", "toy", "cpu")
    assert record["timings"].keys() == {"network", "image"} and not record["error"]


def test_maxim_doctor(installed: Path) -> None:
    done = command(installed, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = {backend["name"]: backend for backend in json.loads(done.stdout)["backends"]}
    assert found["toy"]["works"] and found["onnxruntime"]["works"]
    assert "maxim-deploy-broken 0.3" in found["broken"]["reason"]
    assert "expected a BackendSpec with this name" in found["odd"]["reason"]
