from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from benchmarks.samples import record

from maxim_deploy.benchmarks.records import append_records, read_records
from maxim_deploy.errors import UsageError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
RECORD = record()


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    other = record("onnxruntime", 1, 2, precision="fp16", batch=4, error=None, warnings=["noisy"])
    append_records(path, [RECORD])
    append_records(path, [other])
    assert read_records(path) == [RECORD, other]
    assert json.loads(path.read_text().splitlines()[0])["schema"] == 2
    assert (RECORD.label, other.label) == ("literal", "onnxruntime fp16")
    assert RECORD.medians_ms("network") == [1000, 1200, 1000, 2000, 1100]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.name)
def test_committed_records_are_read(path: Path) -> None:
    for found in read_records(path):
        assert found.error or found.medians_ms("network")
        assert found.environment["commit"]


def test_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_records(path, [RECORD])
    for line, message in {
        "{": "not a record",
        '{"subject": "x"}': "not a record",
        "7": "not a record",
        json.dumps(asdict(RECORD) | {"schema": 9}): "schema 9, this version reads 2",
        json.dumps(asdict(RECORD) | {"schema": 1}): "schema 1, this version reads 2",
    }.items():
        bad = tmp_path / "bad.jsonl"
        bad.write_text(path.read_text() + line)
        with pytest.raises(UsageError, match=f"line 2: {message}"):
            read_records(bad)


def test_an_unwritable_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        append_records(tmp_path, [RECORD])


def test_a_line_that_was_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    append_records(file, [record("a")])
    file.write_text(file.read_text() + '{"schema": 2, "sui')
    append_records(file, [record("b")])
    append_records(file, [record("c")])
    lines = file.read_text().splitlines()
    assert [line[:12] for line in lines] == ['{"suite": "d', '{"schema": 2', *['{"suite": "d'] * 2]
    with pytest.raises(UsageError, match="line 2: not a record"):
        read_records(file)


def test_what_is_in_a_record_is_checked(tmp_path: Path) -> None:
    whole = asdict(record("onnxruntime", memory={
        "size": [64, 64], "baseline_bytes": 1, "peak_bytes": 2, "bytes_per_pixel": 3.0,
    }))  # fmt: skip
    timing = whole["timings"]["network"]
    wrong = {
        "environment must be of type dict": {"environment": None},
        "environment has no 'cpu'": {"environment": {}},
        "timings must be of type dict": {"timings": []},
        "expected network, transfer, image": {"timings": {"x": timing}},
        "must have rounds": {"timings": {"network": timing | {"rounds_ms": []}}},
        "each with a run": {"timings": {"network": timing | {"rounds_ms": [[]]}}},
        "times above 0": {"timings": {"network": timing | {"rounds_ms": [[0.0]]}}},
        "wall.p50_ms must be of type float": {
            "timings": {"network": timing | {"wall": timing["wall"] | {"p50_ms": "x"}}}
        },
        "size must have 2 items": {"size": [1]},
        "two positive integers": {"memory": whole["memory"] | {"size": [64]}},
        "finite": {"environment": whole["environment"] | {"ram_bytes": 10**300}},
        "unknown key 'tomorrow'": {"tomorrow": 1},
        "load.0. has no 'latency'": {
            "load": [{"mode": "open", "callers": 1, "offered_per_s": 1, "images_per_s": 1}]
        },
    }
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(whole))
    assert len(read_records(path)) == 1
    for message, change in wrong.items():
        path.write_text(json.dumps(whole | change))
        with pytest.raises(UsageError, match=f"line 1: .*{message}"):
            read_records(path)
