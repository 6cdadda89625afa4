"""Promises of the package itself: what importing it costs, what the wheel holds, who needs what."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from releasing import release_check

import maxim_deploy

ROOT = Path(__file__).parents[1]


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


BLOCKED = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # importing it now fails
"""


def test_import_needs_numpy_only() -> None:
    blocked = "torch,onnx,onnx_ir,onnxscript,onnxruntime,PIL,click,rich,safetensors,platformdirs"
    script = BLOCKED + "import maxim_deploy; maxim_deploy.Restorer, maxim_deploy.load"
    result = python(script, blocked)
    assert result.returncode == 0, result.stderr


def test_import_loads_nothing_heavy() -> None:
    heavy = {"numpy", "torch", "onnx", "onnxruntime", "PIL"}
    result = python(f"import sys, maxim_deploy; print({heavy} & set(sys.modules))")
    assert result.stdout.strip() == "set()", result.stdout + result.stderr


def test_the_runtime_works_without_torch_and_onnx(demo_bundle: Path) -> None:
    script = BLOCKED + (
        "import numpy, maxim_deploy\n"
        "with maxim_deploy.load(sys.argv[2]) as restorer:\n"
        "    print(restorer(numpy.zeros((5, 7, 3), numpy.uint8)).shape)"
    )
    blocked = "torch,onnx,onnx_ir,onnxscript,PIL,click,rich,safetensors"
    result = python(script, blocked, str(demo_bundle))
    assert result.stdout.strip() == "(5, 7, 3)", result.stderr


def test_missing_backend_is_a_pip_line(demo_bundle: Path) -> None:
    script = BLOCKED + (
        "import maxim_deploy\n"
        "try: maxim_deploy.load(sys.argv[2])\n"
        "except maxim_deploy.MissingDependencyError as error: print(error.exit_code, error)"
    )
    result = python(script, "onnxruntime", str(demo_bundle))
    assert "2 onnxruntime is not installed; run: pip install 'maxim-deploy[cpu]'" in result.stdout


def test_public_names() -> None:
    for name in maxim_deploy.__all__:
        assert getattr(maxim_deploy, name) is not None
        assert name in dir(maxim_deploy)
    with pytest.raises(AttributeError, match="has no attribute 'Restore'"):
        maxim_deploy.Restore  # noqa: B018


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"maxim_deploy-{maxim_deploy.__version__}.dist-info/"
    assert {name.split("/")[0] + "/" for name in names} == {"maxim_deploy/", metadata}
    packaged = {name for name in names if name.startswith("maxim_deploy/")}
    # What `maxim-export --for comfyui` writes is a package of its own in a checkout.
    spandrel, assets = "integrations/maxim-spandrel/", "maxim_deploy/assets/maxim-spandrel/"
    tracked = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "maxim_deploy", spandrel],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if tracked:  # a source archive is no checkout
        assert packaged == {name.replace(spandrel, assets) for name in tracked}
    assert {"maxim_deploy/py.typed", "maxim_deploy/assets/demo-denoise.safetensors"} <= packaged
    assert f"{assets}maxim_spandrel/architecture.py" in packaged


def test_the_source_archive_is_complete(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.split("/", 1)[1] for name in file.getnames()}
    assert {"Makefile", "constraints.txt", "LICENSE", "README.md", "tests/reference.py"} <= names


def test_the_release_check_accepts_both(distributions: Path) -> None:
    (wheel,), (archive,) = distributions.glob("*.whl"), distributions.glob("*.tar.gz")
    assert list(release_check.versions_differ(wheel, archive)) == []
    assert list(release_check.wheel_problems(wheel)) == []
    assert list(release_check.sdist_problems(archive)) == []


def test_the_release_check_refuses_what_is_not_of_the_package(
    distributions: Path, tmp_path: Path
) -> None:
    (wheel,) = distributions.glob("*.whl")
    spoilt = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(spoilt, "w") as target:
        for name in source.namelist():
            if not name.endswith("licenses/LICENSE"):
                target.writestr(name, source.read(name))
        target.writestr("tests/conftest.py", "")
    foreign, licence = release_check.wheel_problems(spoilt)
    assert foreign.startswith("the wheel holds tests | expected maxim_deploy")
    assert licence == "the wheel has no LICENSE | add license-files to pyproject.toml"


def test_extras_are_the_documented_ones(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    file = zipfile.ZipFile(wheel)
    (name,) = [name for name in file.namelist() if name.endswith("METADATA")]
    lines = file.read(name).decode().splitlines()
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra: ")}
    assert extras == {
        "cpu", "openvino", "gpu", "tensorrt", "rtx", "pycuda", "export", "hdr", "video", "cloud",
        "ray", "serve", "triton",
        "bench", "docs", "dev",
    }  # fmt: skip
    assert "License-Expression: Apache-2.0" in lines


def test_no_test_module_imports_another() -> None:
    """What tests share, such as fakes, is in modules of its own, so that each runs alone."""
    files = Path(__file__).parent.rglob("*.py")
    imports = re.compile(r"^\s*(from|import) (\w+\.)*(test_\w+|conftest)\b", re.MULTILINE)
    assert [str(path) for path in files if imports.search(path.read_text("utf-8"))] == []


def test_the_documentation_lists_every_room() -> None:
    """And none that is gone. `assets` holds data only."""
    page = (ROOT / "docs" / "reference" / "rooms.md").read_text("utf-8")
    _, table = page.split("| room | what is in it |")
    cells = [line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()[2:]]
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    rooms = {path.stem for path in (ROOT / "maxim_deploy").iterdir() if path.stem[:2] != "__"}
    assert sorted(listed) == sorted(rooms - {"assets", "py"})
