"""Records in JSON lines: appended whole, and read with or without mercy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maxim_deploy._records import append_lines, read_intact_lines, read_lines
from maxim_deploy.errors import UsageError


def number(line: Any) -> int:
    return int(line["n"])


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    append_lines(file, [])
    assert file.read_bytes() == b""
    append_lines(file, [{"n": 1}, {"n": 2, "text": "zwei\n\u2028"}])
    append_lines(file, [{"n": 3}], durable=True)
    assert file.read_bytes().count(b"\n") == 3
    assert read_lines(file, "numbers", number) == read_intact_lines(file, number) == [1, 2, 3]


def test_a_torn_line_costs_nothing_but_itself(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    append_lines(file, [{"n": 1}])
    with file.open("ab") as torn:
        torn.write(b'{"n": 1\xff')
    append_lines(file, [])
    assert file.read_bytes().endswith(b"\xff")
    append_lines(file, [{"n": 2}])
    assert read_intact_lines(file, number) == [1, 2]
    with pytest.raises(UsageError, match=r"records.jsonl', line 2: not a record: "):
        read_lines(file, "numbers", number)


@pytest.mark.parametrize("foreign", ['{"m": 1}', '{"n": []}', "7", "[]", "null", '{"n": "x"}'])
def test_a_foreign_line(tmp_path: Path, foreign: str) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(f'{{"n": 1}}\n\n{foreign}\n{{"n": 2}}\n')
    assert read_intact_lines(file, number) == [1, 2]
    with pytest.raises(UsageError, match="line 3: not a record: "):
        read_lines(file, "numbers", number)


def test_a_reason_of_ones_own(tmp_path: Path) -> None:
    def refuse(line: Any) -> None:
        raise UsageError("this is of another year")

    file = tmp_path / "records.jsonl"
    append_lines(file, [{}])
    with pytest.raises(UsageError, match="line 1: this is of another year"):
        read_lines(file, "numbers", refuse)


def test_no_file(tmp_path: Path) -> None:
    assert read_intact_lines(tmp_path / "none", number) == []
    with pytest.raises(UsageError, match="cannot read numbers from '.*none'"):
        read_lines(tmp_path / "none", "numbers", number)
    with pytest.raises(OSError, match="none"):
        append_lines(tmp_path / "none" / "records.jsonl", [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told() -> None:
    with pytest.raises(OSError, match="No space left"):
        append_lines(Path("/dev/full"), [{"n": 1}])


def test_processes_append_to_one_file(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    script = (
        "import sys, pathlib\n"
        "from maxim_deploy._records import append_lines\n"
        "for k in range(200):\n"
        "    line = {'n': k, 'who': sys.argv[2], 'text': 'x' * 5000}\n"
        "    append_lines(pathlib.Path(sys.argv[1]), [line])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(file), name]) for name in ("a", "b")
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    lines = read_lines(file, "numbers", lambda line: (line["who"], line["n"], len(line["text"])))
    assert sorted(lines) == [(who, n, 5000) for who in "ab" for n in range(200)]


def test_a_link_is_followed_only_where_a_user_names_it(tmp_path: Path) -> None:
    (victim := tmp_path / "victim").write_text("mine\n")
    (link := tmp_path / "link").symlink_to(victim)
    with pytest.raises(OSError, match="is a symbolic link: remove it"):
        append_lines(link, [1], follow=False)
    with pytest.raises(OSError, match="is a symbolic link: remove it"):
        read_intact_lines(link, int, follow=False)
    assert victim.read_text() == "mine\n"
    append_lines(link, [1])
    assert victim.read_text() == "mine\n1\n" and read_intact_lines(link, int) == [1]
