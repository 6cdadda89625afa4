"""What people write as TOML and programs as JSON, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maxim_deploy.errors import UsageError
from maxim_deploy.spec.decoding import (
    decoded,
    of_type,
    read_flag,
    read_table,
    read_text,
    read_texts,
    read_toml,
)

READERS = {
    "name": read_text,
    "fast": read_flag,
    "tags": read_texts,
    "level": of_type(int, "a number from 0 to 5"),
}


def test_each_key_has_a_reader(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "x"\nfast = true\ntags = ["a", "b"]\nlevel = 3')
    found = read_toml(file, "recipe", lambda table: read_table(table, READERS))
    assert found == {"name": "x", "fast": True, "tags": ("a", "b"), "level": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'", r"unknown key 'nmae' \(did you mean 'name'\?\); known: name, fast, tags, "),
        ("name = 3", "name must be a string, not 3"),
        ("fast = 1", "fast must be true or false, not 1"),
        ("tags = 'a'", "tags must be a list of strings, not 'a'"),
        ("tags = [1]", r"tags must be a list of strings, not \[1\]"),
        ("level = true", "level must be a number from 0 to 5, not True"),
        ("name = ", "Invalid value"),
        ("name = '\xff'", "can't decode"),
        (None, "No such file"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "a.toml"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=f"^recipe '.*a.toml': .*{message}"):
        read_toml(file, "recipe", lambda table: read_table(table, READERS))


@dataclass(frozen=True)
class Point:
    x: float
    labels: tuple[str, ...] = ()
    next: dict[str, int] | None = None


def test_json_becomes_what_was_declared() -> None:
    value = {"x": 1, "labels": ["a"], "next": {"b": 2}}
    assert decoded(list[Point], [value]) == [Point(1, ("a",), {"b": 2})]
    assert decoded(Point, {"x": 0.5, "next": None}) == Point(0.5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"x": True}, "point.x must be of type float, not True"),
        ({"x": 1, "labels": [2]}, r"point.labels\[0\] must be of type str, not 2"),
        ({"x": 1, "next": 3}, "point.next must be of type dict, not 3"),
        ({"x": 1, "lables": []}, r"point: unknown key 'lables' \(did you mean 'labels'\?\)"),
        ({}, "missing 1 required positional argument: 'x'"),
        ([], r"point must be of type dict, not \[\]"),
    ],
)
def test_another_json_is_refused(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        decoded(Point, value, "point")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes('name = "\u5199"\r\n'.encode(encoding))
    assert read_toml(file, "recipe", lambda table: table) == {"name": "\u5199"}
