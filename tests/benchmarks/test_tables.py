from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.samples import BOUND, ENVIRONMENT, handoff, record, timing

from maxim_deploy.benchmarks.records import append_records
from maxim_deploy.benchmarks.tables import LEGEND, results_of, table_of
from maxim_deploy.benchmarks.timing import MIN_ROUNDS
from maxim_deploy.cli.bench import bench

FOLDER = Path(__file__).parents[2] / "benchmarks"
FASTER = record(
    "onnxruntime", 500, 600, 400, 1000, 550,
    start={"load_s": 0.5, "first_call_ms": 700.0},
    memory={"size": [256, 256], "peak_bytes": 3 * 10**9, "bytes_per_pixel": 2765.7,
            "device_bytes": None},
    graph={"nodes": 10, "transposes": 4, "live_bytes_per_pixel": 2000.4, "live_at": "a/Add_0"},
    cost={"operations_per_pixel": 123456.0, "share": 0.255, "fused_share": 0.1, "gflops": 90.4,
          "gbps": 20.04},
    agreement={"with": "literal", "max_error": 1.2e-6},
)  # fmt: skip


def test_the_committed_results_are_the_rendered_ones() -> None:
    rendered = results_of(sorted((FOLDER / "results").glob("*.jsonl")))
    assert (FOLDER / "RESULTS.md").read_text("utf-8") == rendered + "\n", (
        "run: maxim-bench --render benchmarks/results/*.jsonl > benchmarks/RESULTS.md"
    )


def test_the_number_of_rounds_for_a_verdict_is_the_one_that_counts() -> None:
    assert f"Fewer than {MIN_ROUNDS} rounds give no verdict" in " ".join(LEGEND.split())
    assert f"with fewer than {MIN_ROUNDS} rounds" in " ".join((bench.help or "").split())


def test_a_table_has_method_ratios_and_memory() -> None:
    method, _, head, rule, literal, ours = table_of([record(), FASTER]).splitlines()
    assert "**deployment**, S-1 random: S-1; 2 threads, 5 rounds. Z80 (Zilog 8 0 1) x 2" in method
    assert "At most 90 GFLOP/s and 20.0 GB/s. onnx 1.18;" in method
    moved = replace(FASTER, noise=handoff(80))
    assert "20.0 GB/s. 80 ns from one processor to the next. onnx" in table_of([record(), moved])
    assert head.count("|") == rule.count("|") == literal.count("|") == ours.count("|")
    heads = [cell.strip() for cell in head.split("|")[1:-1]]
    cells = dict(zip(heads, (cell.strip() for cell in ours.split("|")[1:-1]), strict=True))
    assert cells == {
        "subject": "onnxruntime", "size": "256x256", "network": "550", "p95": "920",
        "spread": "10%", "megapixels/s": "0.119", "speed, x literal": "2.00 (2.00 to 2.50)",
        "load, s": "0.5", "first": "700", "peak, MB": "3000", "run, B/px": "2766",
        "kFLOP/px": "123", "bound": "26%", "products": "10%", "nodes": "10", "transposes": "4",
        "live set, B/px": "2000", "max error": "1.2e-06",
    }  # fmt: skip


def test_an_engine_with_a_bound_has_two_columns_more() -> None:
    head, _, row = table_of([record("tensorrt", 10, bound=BOUND)]).splitlines()[2:]
    cells = dict(zip(head.split("|"), row.split("|"), strict=True))
    assert (cells[" traffic, B/px "], cells[" of its bound "]) == (" 70 ", " 25% ")


def test_brackets_and_gpu_time_are_columns_of_their_own() -> None:
    rounds = [[2.0]] * 5
    timings = {
        "network": timing(rounds, gpu=True),
        "transfer": timing([[3.0]] * 5),
        "image": timing([[4.0]] * 5),
    }
    lines = table_of([record("tensorrt", timings=timings, batch=4)]).splitlines()
    assert lines[2].startswith("| subject | size | network | transfer | image | GPU time | p95 |")
    assert lines[4].startswith("| tensorrt | 256x256 x 4 | 2 | 3 | 4 | 2 | 2 |")


def test_what_cannot_be_told_apart_is_marked() -> None:
    literal = record("literal", 1000, 1200, 1000, 2000, 1100, 1000)
    same = record("onnxruntime", 1001, 1100, 1010, 1900, 1200, 1000)
    assert "| ~1.00 (0.92 to 1.09) |" in table_of([literal, same])
    few = record("onnxruntime", 500, 500)
    assert "| 2.20 (2.00 to 2.40) |" in table_of([record(), few])


def test_ratios_are_to_the_same_size_only() -> None:
    other = record("onnxruntime", size=(512, 512))
    assert "speed" not in table_of([record(), other])


def test_memory_of_another_size_says_so() -> None:
    memory = {"size": [1024, 1024], "peak_bytes": 10**9, "bytes_per_pixel": 2.0}
    assert "| 1000 at 1024x1024 |" in table_of([record(memory=memory)])
    padded = {"size": [256, 320], "peak_bytes": 10**9, "bytes_per_pixel": 2.0}
    assert "| 1000 |" in table_of([record(size=(250, 300), memory=padded)])


def test_warnings_are_said_once_and_failures_have_no_row() -> None:
    busy = record(warnings=["others used 12% of the processors", "too noisy: 8% wide"])
    busier = record("onnxruntime", warnings=["others used 60% of the processors"])
    failed = record("tensorrt", timings={}, error="there is no NVIDIA GPU 0\nor no driver here")
    text = table_of([busy, busier, failed])
    assert "- literal 256x256, onnxruntime 256x256: others used 12 to 60% of the processors" in text
    assert "- literal 256x256: too noisy: 8% wide" in text
    assert "- tensorrt 256x256: failed: there is no NVIDIA GPU 0 or no driver here" in text
    assert "| tensorrt" not in text
    assert "- all: others used 12 to 60% of the processors" in table_of([busy, busier])


def test_the_test_under_load_is_a_table() -> None:
    latency = {"p50_ms": 10.0, "p95_ms": 20.0, "p99_ms": 120.0}
    load = [
        {"mode": "closed", "callers": 2, "offered_per_s": None, "images_per_s": 99.5,
         "latency": latency},
        {"mode": "open", "callers": 2, "offered_per_s": 50.0, "images_per_s": 49.0,
         "latency": latency},
    ]  # fmt: skip
    text = table_of([record("onnxruntime", load=load)])
    assert "| onnxruntime | 256x256 | closed | 2 |  | 99.5 | 10 | 20 | 120 |" in text
    assert "| onnxruntime | 256x256 | open | 2 | 50 | 49 | 10 | 20 | 120 |" in text


def test_runs_and_models_have_tables_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    append_records(file, [record(), record(model="S-2 random"), record(run="other")])
    text = results_of([file])
    assert text.count("| subject |") == 3
    assert "## r.jsonl" in text and text.startswith("# Results\n\nRendered by")


@pytest.mark.parametrize("gpu", [None, {"name": "NVIDIA L4"}])
def test_the_gpu_is_named(gpu: dict[str, str] | None) -> None:
    text = table_of([record(environment=ENVIRONMENT | {"gpu": gpu})])
    assert ("NVIDIA L4" in text) == (gpu is not None)


def test_words_of_a_warning_are_left_alone_and_only_differences_are_ranges() -> None:
    said = "torch 2.10.0+cpu, {:.2f} of 17179869184 bytes"
    one, two = (record(name, warnings=[said.format(x)]) for name, x in (("a", 0.5), ("b", 2.25)))
    assert "- all: torch 2.10.0+cpu, 0.5 to 2.25 of 17179869184 bytes" in table_of([one, two])
    assert "- a 256x256: torch 2.10.0+cpu, 0.50 of 17179869184 bytes" in table_of([one])
    batch = record("a", batch=4, warnings=["7 rounds"])
    both = table_of([record("a", warnings=["50 rounds"]), batch])
    assert "- all: 50 to 7 rounds" not in both and "7 to 50 rounds" in both


def test_a_name_ends_neither_its_cell_nor_its_line() -> None:
    table = table_of([record("a|b\n| c \x1b[2J")])
    assert r"| a\|b\n\| c \x1b[2J |" in table
