"""The report on a machine: processes that end badly, problems, and the text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxim_deploy.machine.gpu import Gpu
from maxim_deploy.runtime import doctor
from maxim_deploy.runtime.doctor import LIBRARIES, Report, examine, report_text
from maxim_deploy.runtime.registry import BACKENDS
from maxim_deploy.runtime.verdict import Verdict

L4 = Gpu("NVIDIA L4", "8.9", 24 * 2**30, "13.0")


def report(gpu: Gpu | None = None, *backends: Verdict, **versions: str) -> Report:
    libraries = {name: versions.get(name.replace("-", "_")) for name in LIBRARIES}
    problems = doctor._problems(libraries, gpu)
    return Report("1", "3.11", "Linux", gpu, "580.1", libraries, problems, list(backends))


def test_this_machine() -> None:
    found = examine()
    assert [backend.name for backend in found.backends] == [s.name for s in BACKENDS if s.probe]
    assert found.some_backend_works
    assert json.loads(json.dumps(found.to_json()))["libraries"].keys() == LIBRARIES.keys()
    for backend in found.backends:
        assert backend.works == (backend.reason is None)


@pytest.mark.parametrize(
    ("body", "reason", "log"),
    [
        ("import os; os.abort()", "the process that tried it was killed by SIGABRT", ""),
        ("import os; os._exit(3)", "the process that tried it ended with exit code 3", ""),
        (
            "import sys; sys.stderr.write('lib.so is missing'); raise OSError('it broke')",
            "onnxruntime is installed, but importing it fails (OSError: it broke)",
            "lib.so is missing",
        ),
        ("import absent", "No module named 'absent'", ""),
        ("import time; time.sleep(60)", "did not answer within 1 s", ""),
    ],
)
def test_a_broken_library_does_not_break_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str, log: str
) -> None:
    (tmp_path / "onnxruntime.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    if "sleep" in body:
        monkeypatch.setattr(doctor, "_PATIENCE_S", 1.0)
    verdict = doctor.verdict_from_process("onnxruntime")
    assert (verdict.works, verdict.reason) == (False, reason)
    assert log in verdict.log


def test_what_a_library_prints_does_not_matter(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "print('hello', end='')\n"
        "class InferenceSession:\n"
        "    def __init__(self, *args, **kwargs): pass\n"
        "    def run(self, names, feeds):\n"
        "        image = feeds['image']\n"
        "        return [image + 2 * image[:, [1, 2, 0]]]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.verdict_from_process("onnxruntime") == Verdict("onnxruntime", works=True)


def test_files_in_the_working_directory_are_no_libraries(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert doctor.verdict_from_process("onnxruntime").works


@pytest.mark.parametrize(("gpu", "extra"), [(None, "cpu"), (L4, "gpu")])
def test_two_packages_of_one_module_are_a_problem(gpu: Gpu | None, extra: str) -> None:
    both = report(gpu, onnxruntime="1.32.0", onnxruntime_gpu="1.31.0")
    assert report_text(both).endswith(
        "problem: onnxruntime and onnxruntime-gpu are both installed and overwrite each other's "
        "files; run: pip uninstall -y onnxruntime onnxruntime-gpu && "
        f"pip install 'maxim-deploy[{extra}]'"
    )
    assert "problem" not in report_text(report(gpu, onnxruntime="1.32.0"))


def test_the_text_has_versions_and_pip_lines() -> None:
    lines = report_text(report(None, onnxruntime="1.32.0")).splitlines()
    assert (
        "GPU           unknown without cuda-bindings; run: pip install 'maxim-deploy[rtx]'" in lines
    )
    assert "driver        580.1" in lines
    assert "  onnxruntime     1.32.0" in lines
    assert "  onnxruntime-gpu not installed; it excludes onnxruntime" in lines
    assert "  tifffile        not installed: pip install 'maxim-deploy[hdr]'" in lines
    text = report_text(report(L4))
    assert "NVIDIA L4, compute capability 8.9, 24 GiB, CUDA up to 13.0" in text
    assert "onnxruntime-gpu not installed: pip install 'maxim-deploy[gpu]'" in text


def test_the_text_says_of_each_backend_why_not_and_what_to_do() -> None:
    text = report_text(
        report(
            None,
            Verdict("onnxruntime", works=True),
            Verdict("tensorrt", False, "not there", "pip install it", False, "one\ntwo"),
            Verdict("tensorrt-rtx", False, "no GPU", None, True),
        )
    )
    indent = " " * 20
    assert text.split("backends\n")[1].splitlines() == [
        "  onnxruntime       works",
        "  tensorrt          no: not there",
        f"{indent}engines cannot be built here",
        f"{indent}pip install it",
        f"{indent}| one",
        f"{indent}| two",
        "  tensorrt-rtx      no: no GPU",
        f"{indent}engines can be built here",
    ]


def test_the_extras_named_are_ours() -> None:
    import tomllib

    project = tomllib.loads((Path(doctor.__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for library, extra in LIBRARIES.items():
        assert any(line.startswith(f"{library}>=") for line in extras[extra]), library
