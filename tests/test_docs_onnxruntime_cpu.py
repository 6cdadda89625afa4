"""The benchmark in the report runs, and the report's figures of the form are the form's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "concepts" / "onnxruntime-cpu.md"


def test_the_benchmark_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    small, count = re.subn(r"= 262144, 64, 20$", "= 128, 64, 2", code, flags=re.MULTILINE)
    assert count == 1
    done = subprocess.run(
        [sys.executable, "-c", small], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[:24].strip() for line in lines] == [
        "Gemm, bias", "MatMul + Add, bias", "Gemm, addend", "MatMul + Add, addend",
        "LayerNormalization", "InstanceNormalization",
    ]  # fmt: skip
    assert all(re.search(r"1 threads +[\d.]+ ms 2 threads +[\d.]+ ms$", line) for line in lines)
