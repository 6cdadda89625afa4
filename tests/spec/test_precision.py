"""The table of precisions: its numbers are those of the libraries, and it is the only one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import onnx
import onnx_ir as ir
import pytest
import torch

import maxim_deploy
from maxim_deploy.spec.precision import (
    CPU_PRECISIONS,
    DEFAULT_PRECISIONS,
    FULL,
    GPU_PRECISIONS,
    LOW,
    PRECISIONS,
    Precision,
    lower_of,
)

PACKAGE = Path(maxim_deploy.__file__).parent

ROWS = pytest.mark.parametrize("row", PRECISIONS.values(), ids=PRECISIONS)

OWN_WORDS = {
    "spec/precision.py": "the table itself",
    "checkpoints/entries.py": "element types that files of weights may have, float64 among them",
    "spec/recipes.py": "types that the input and output of a planar graph may have",
    "runtime/names.py": "the names for type checkers, which a test compares with the table",
    "machine/openvino.py": "what OpenVINO calls the two that a processor may compute in",
    "hosts/table.py": "what each host takes",
    "hosts/hub.py": "the names of the files that the Hub's libraries look for",
    "hosts/vapoursynth.py": "a README and a script for VapourSynth",
}
"""Modules that may quote a precision or its type, and why."""

QUOTED = re.compile(r"\b(fp32|fp16|bf16|float16|bfloat16)\b")


@ROWS
def test_a_row_is_the_type_that_libraries_know(row: Precision) -> None:
    dtype = ir.DataType(row.onnx)
    numbers = ml_dtypes.finfo(dtype.numpy())
    assert (dtype.numpy().name, row.type) == (row.type, str(numbers.dtype))
    assert (numbers.nmant + 1, numbers.nexp) == (row.significand, row.exponent)
    assert (dtype.itemsize, getattr(torch, row.type).itemsize) == (row.bytes, row.bytes)


@ROWS
def test_what_follows_from_the_significand(row: Precision) -> None:
    dtype = getattr(torch, row.type)
    last = torch.tensor(row.largest_count, dtype=dtype)
    assert last - 1 != last and last + 1 == last
    half = torch.tensor(0.5 + row.half_step, dtype=torch.float64)
    assert half.to(dtype) == 0.5  # halfway, so to the even one
    assert (half + row.half_step / 8).to(dtype) == 0.5 + 2 * row.half_step


@ROWS
def test_the_opset_is_the_first_in_which_the_network_computes_it(row: Precision) -> None:
    def computes(operator: str, opset: int) -> bool:
        schema = onnx.defs.get_schema(operator, opset)
        variable = schema.outputs[0].type_str
        allowed = next(c for c in schema.type_constraints if c.type_param_str == variable)
        return f"tensor({row.type.removesuffix('32')})" in allowed.allowed_type_strs

    operators = ("Conv", "ConvTranspose", "AveragePool", "GlobalAveragePool", "Gelu", "Gemm")
    assert all(computes(operator, row.opset) for operator in operators)
    if row.opset > PRECISIONS[FULL].opset:
        assert not all(computes(operator, row.opset - 1) for operator in operators)


def test_the_orders_of_preference() -> None:
    assert GPU_PRECISIONS == ("fp16", "bf16", "fp32")
    assert CPU_PRECISIONS == ("fp32", "fp16")
    assert DEFAULT_PRECISIONS == ("fp32", "fp16")
    assert (FULL, *LOW) == tuple(PRECISIONS) == ("fp32", "fp16", "bf16")
    assert lower_of(("bf16", "fp32")) is LOW["bf16"]
    assert lower_of(("fp32", "fp32")).name == FULL


def test_no_other_module_quotes_a_precision() -> None:
    quoted = {
        path.relative_to(PACKAGE).as_posix(): found
        for path in sorted(PACKAGE.rglob("*.py"))
        if (found := [text for text in literals(path) if QUOTED.search(text)])
    }
    unexplained = {path: found for path, found in quoted.items() if path not in OWN_WORDS}
    assert not unexplained
    assert set(OWN_WORDS) <= set(quoted)  # an exception that is not needed any more goes


def literals(path: Path) -> Iterator[str]:
    """Every text in a module's code; documentation is not code."""
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            yield from [node.value] if isinstance(node.value, str) else []
