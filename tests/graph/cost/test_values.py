"""Shapes of every value of a graph, without holding the values."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEPS, SIDE = 60, 512

# Peak memory is of a whole process, so this one has nothing else in it.
CODE = f"""
import onnx
from maxim_deploy.machine.memory import peak_resident_bytes
from maxim_deploy.graph.cost.values import values_of
steps = [f"x{{k + 1}} = Neg (x{{k}})" for k in range({STEPS})]
text = '<ir_version: 10, opset_import: ["" : 20]> chain (float[N, 3, H, W] x0)'
text += " => (float[N, 3, H, W] x{STEPS}) {{ " + " ".join(steps) + " }}"
model = onnx.parser.parse_model(text)
values_of(model, (1, 3, 64, 64))
before = peak_resident_bytes()
values = values_of(model, (1, 3, {SIDE}, {SIDE}))
assert len(values) == {STEPS} + 1 and values["x7"].shape == (1, 3, {SIDE}, {SIDE})
print(peak_resident_bytes() - before, sum(value.bytes for value in values.values()))
"""


@pytest.mark.xdist_group("measuring")
def test_a_value_is_gone_once_its_shape_is_known() -> None:
    command = [sys.executable, "-c", CODE]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    held, all_together = map(int, printed.split())
    assert held < all_together / 4
