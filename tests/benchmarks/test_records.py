from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from maxim_deploy.benchmarks.environment import environment
from maxim_deploy.benchmarks.records import Record, append_records, read_records
from maxim_deploy.benchmarks.tables import table_of
from maxim_deploy.errors import UsageError

RECORD = Record(
    suite="deployment",
    run="0123456789ab",
    created="2026-01-02T03:04:05+00:00",
    subject="literal",
    engine="onnxruntime",
    library="onnxruntime 1.22",
    architecture="S-1",
    graph={"nodes": 10, "transposes": 4, "live_bytes_per_pixel": 2000.4, "live_at": "a/Add_0"},
    time={
        "size": [256, 256], "threads": 2, "warmup": 2, "rounds": 5, "pause_s": 0.25,
        "seconds": [1.0, 1.2, 1.0, 2.0, 1.1], "idle_cpu_s": 0.01,
    },
    memory={
        "size": [1024, 1024], "threads": 2, "baseline_bytes": 10**8, "peak_bytes": 3 * 10**9,
        "bytes_per_pixel": 2765.7,
    },
    agreement={"with": "literal", "max_error": 0.0},
    environment={
        "cpu": "Z80", "cpus": 2, "load_average_1m": 0.5, "libraries": {"onnx": "1.18"},
        "commit": "abc",
    },
)  # fmt: skip
FASTER = replace(
    RECORD,
    subject="deployment",
    time={**RECORD.time, "seconds": [0.5, 0.6, 0.4, 1.0, 0.55]},
    agreement={"with": "literal", "max_error": 1.2e-6},
)


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    append_records(path, [RECORD])
    append_records(path, [FASTER])
    assert read_records(path) == [RECORD, FASTER]
    assert json.loads(path.read_text().splitlines()[0])["schema"] == 1


def test_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_records(path, [RECORD])
    for line, message in {
        "{": "not a record",
        '{"subject": "x"}': "not a record",
        json.dumps(asdict(RECORD) | {"schema": 9}): "schema 9, this version reads 1",
    }.items():
        bad = tmp_path / "bad.jsonl"
        bad.write_text(path.read_text() + line)
        with pytest.raises(UsageError, match=f"line 2: {message}"):
            read_records(bad)


def test_an_unwritable_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write records"):
        append_records(tmp_path, [RECORD])


def test_a_table_has_method_ratios_and_memory() -> None:
    method, _, head, rule, literal, deployment = table_of([RECORD, FASTER]).splitlines()
    assert "S-1, 256x256, batch 1, 2 threads, medians of 5 alternating rounds" in method
    assert "whole process at 1024x1024" in method
    assert head.count("|") == rule.count("|") == literal.count("|") == deployment.count("|")
    assert literal.startswith("| literal | 1100 | 1.00 | 1.00 (1.00 to 1.00) | 10 | 4 | 2000 |")
    assert deployment == (
        "| deployment | 550 | 0.50 | 2.00 (2.00 to 2.50) | 10 | 4 | 2000 | 3000 | 2766 | 1.2e-06 |"
    )


def test_a_table_without_graph_and_memory() -> None:
    eager = replace(RECORD, subject="pytorch", graph=None, memory=None)
    assert "|  |  |  |  |  | 0.0e+00 |" in table_of([eager])
    assert "peak of the whole process" not in table_of([eager])


def test_the_environment_names_the_machine_but_not_its_owner() -> None:
    import getpass
    import platform

    found = environment()
    assert set(found) == {
        "cpu", "cpus", "ram_bytes", "os", "python", "libraries", "load_average_1m", "commit",
    }  # fmt: skip
    assert {"maxim-deploy", "numpy"} <= set(found["libraries"])
    text = json.dumps(found)
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert platform.node() not in text or platform.node() in ("", "Linux")
    assert getpass.getuser() in ("root",) or getpass.getuser() not in text
