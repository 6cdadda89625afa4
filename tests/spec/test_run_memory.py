"""The memory of a run, between and beyond what was measured."""

from __future__ import annotations

import subprocess
import sys

from maxim_deploy.spec.run_memory import RunMemory


def test_between_two_sizes_lies_a_line_and_beyond_the_last_another() -> None:
    memory = RunMemory([(100, 1000), (200, 1200), (400, 4000)], 10.5)
    assert [memory.bytes_for(pixels) for pixels in (100, 150, 200, 300, 400)] == [
        1000, 1100, 1200, 2600, 4000,
    ]  # fmt: skip
    assert memory.bytes_for(402) == 4021


def test_one_measurement_is_enough() -> None:
    memory = RunMemory([(64, 500)], 2.0)
    assert [memory.bytes_for(pixels) for pixels in (1, 64, 65)] == [500, 500, 502]


def test_it_needs_no_numpy() -> None:
    script = (
        "import sys; sys.modules['numpy'] = None\n"
        "from maxim_deploy.spec.run_memory import RunMemory\n"
        "print(RunMemory([(0, 0), (10, 40)], 1.5).bytes_for(5))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "20\n", done.stderr
