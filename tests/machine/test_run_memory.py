"""How much memory a run takes, as it is measured for a bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from graph.small_graphs import node, write
from machine.children import run

from maxim_deploy.errors import BackendError
from maxim_deploy.machine import run_memory
from maxim_deploy.machine.run_memory import measured_run_memory

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
    pytest.mark.xdist_group("measuring"),
    pytest.mark.usefixtures("every_processor"),
]


def test_the_bytes_of_a_graph(tmp_path: Path) -> None:
    wide = node("Concat", "image " * 16, "wide", axis=1)
    graph = write(tmp_path / "g.onnx", wide, node("Neg", "wide", "restored"))
    measured = measured_run_memory(graph)
    assert measured is not None
    assert 2 * 192 - 20 < measured.bytes_per_pixel < 3 * 192 + 20
    assert [pixels for pixels, _ in measured.measured] == [64**2, 128**2, 192**2, 256**2]
    assert all(
        2 * 192 * pixels < taken < 3 * 192 * pixels + 10e6 for pixels, taken in measured.measured
    )


LOADED_IN_MORE = """
import pathlib, sys, numpy
import maxim_deploy.machine.run_memory as measuring
session_of = measuring.cpu_session
def costly(graph, **options):
    session = session_of(graph, **options)
    numpy.ones(8_000_000)
    return session
measuring.cpu_session = costly
print(measuring.run_memory(pathlib.Path(sys.argv[1]), 64, 64, 1)[0])
"""


def test_what_loading_took_at_its_peak_is_not_of_the_run(demo_bundle: Path) -> None:
    assert run(LOADED_IN_MORE, demo_bundle / "fp16.tensor.onnx") < 10e6  # not 64 MB


def test_nothing_is_imported_from_the_folder_one_is_in(tmp_path: Path, monkeypatch) -> None:
    graph = write(tmp_path / "g.onnx", node("Neg", "image", "restored"))
    (tmp_path / "numpy.py").write_text("raise SystemExit('this is not NumPy')")
    monkeypatch.chdir(tmp_path)
    assert measured_run_memory(graph) is not None


def test_a_graph_that_does_not_run(tmp_path: Path) -> None:
    side = np.array([7])
    graph = write(tmp_path / "g.onnx", node("Reshape", "image side", "restored"), side=side)
    with pytest.raises(BackendError, match=r"measuring the memory of g.onnx failed: .*Reshape"):
        measured_run_memory(graph)


def test_a_process_that_ends_without_a_word(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        run_memory,
        "python_process",
        lambda *_, **__: {"args": [sys.executable, "-c", "import os; os.abort()"]},
    )
    with pytest.raises(BackendError, match="g.onnx failed: its process was killed by SIGABRT"):
        measured_run_memory(tmp_path / "g.onnx")


def test_other_systems_measure_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run_memory.sys, "platform", "darwin")
    assert measured_run_memory(tmp_path / "none.onnx") is None
