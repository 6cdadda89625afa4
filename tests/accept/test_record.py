"""The record: its file, and what is not in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxim_deploy.accept.record import (
    FAILED,
    NOT_RUN,
    PASSED,
    Outcome,
    Record,
    publishable,
    read_record,
    rounded,
)
from maxim_deploy.errors import UsageError

OUTCOMES = [
    Outcome("load", "demo", "onnxruntime", PASSED, None, {"load_s": 0.1}, 0.5),
    Outcome("lanes", "demo", "onnxruntime", FAILED, "differ", {"runs": 12}, 2.0),
    Outcome("load", "demo", "tensorrt", NOT_RUN, "no GPU"),
]
RECORD = Record("2026-01-02T03:04:05+00:00", 3.5, 1200.0, {"cpu": "a"}, 0, OUTCOMES)


def test_a_record_comes_back(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "a.json")
    assert read_record(tmp_path / "a.json") == RECORD
    assert RECORD.counts() == {PASSED: 1, FAILED: 1, NOT_RUN: 1}


@pytest.mark.parametrize(
    "text, why",
    [
        ("{", "is not a record"),
        ("[]", "is not a record"),
        ('{"format": 2}', r"format 2 \| expected 1"),
        ('{"format": 1}', "is not a record"),
        (
            json.dumps({**json.loads(RECORD.to_json()), "more": 1}),
            "is not a record: it: unknown key",
        ),
    ],
)
def test_a_file_that_is_no_record(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match=why):
        read_record(tmp_path / "a.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a record: .*No such file"):
        read_record(tmp_path / "a.json")
    with pytest.raises(UsageError, match="cannot be written"):
        RECORD.write(tmp_path / "no folder" / "a.json")


@pytest.mark.parametrize(
    "text, told",
    [
        ("bundle '/tmp/x y/bundle' has none", "bundle 'bundle' has none"),
        ("engine /tmp/a/b/engines/x.engine fails", "engine x.engine fails"),
        ("in '/home/me/venv/lib/libfoo.so': no", "in 'libfoo.so': no"),
        (r"in C:\Users\me\a.onnx", "in a.onnx"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("stages/0/Conv_0 at 3 ms/run, 1/2", "stages/0/Conv_0 at 3 ms/run, 1/2"),
    ],
)
def test_paths_are_not_published(text: str, told: str) -> None:
    assert publishable(text) == told


def test_numbers_of_a_record() -> None:
    found = rounded({"a": 1.23456, "b": {"c": float("nan")}, "d": "/tmp/x/y.z", "e": 123456})
    assert found == {"a": 1.235, "b": {"c": None}, "d": "y.z", "e": 123456}


def test_a_line_for_each_outcome() -> None:
    assert [str(one) for one in OUTCOMES] == [
        "passed         demo  onnxruntime  load, 0.5 s: load_s 0.1",
        "failed         demo  onnxruntime  lanes, 2.0 s: differ",
        "could not run  demo  tensorrt  load: no GPU",
    ]
