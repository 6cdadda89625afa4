"""The graphs are plain ONNX, for tools that are not ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.comparator import Comparator, SimpleCompareFunc


def test_polygraphy_compares_our_graphs(demo_bundle: Path) -> None:
    runners = [
        OnnxrtRunner(SessionFromOnnx(str(demo_bundle / f"{precision}.tensor.onnx")), name=precision)
        for precision in ("fp32", "fp16")
    ]
    image = np.random.default_rng(0).random((1, 3, 64, 128), np.float32)
    results = Comparator.run(runners, data_loader=[{"image": image}])
    for allowed, agrees in ((4e-3, True), (1e-7, False)):
        compare = SimpleCompareFunc(atol=allowed, rtol=0)
        assert bool(Comparator.compare_accuracy(results, compare_func=compare)) is agrees


def test_polygraphy_inspects_our_graphs(demo_bundle: Path) -> None:
    graph = str(demo_bundle / "fp32.image.onnx")
    command = [str(Path(sys.executable).with_name("polygraphy")), "inspect", "model", graph]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "{image [dtype=uint8, shape=('N', 'H', 'W', 3)]}" in shown, shown
