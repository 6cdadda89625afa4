"""What ran where: the table of records, and the documentation's, made from those committed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from accept.samples import ON_CPU, ON_GPU

import maxim_deploy
from maxim_deploy.accept.plan import STEPS
from maxim_deploy.accept.record import FAILED, read_record
from maxim_deploy.accept.table import NOT_YET, table_of
from maxim_deploy.machine.processes import python_process
from maxim_deploy.runtime.registry import BACKENDS

ROOT = Path(maxim_deploy.__file__).parents[1]
ACCEPTED = sorted((ROOT / "benchmarks" / "results" / "accepted").glob("*.json"))

ELSEWHERE = re.compile(
    r"(not|never) (yet )?(been )?(run|measured|tried)( yet)? on (hardware|a GPU|one)"
    r"|not yet run|nothing has been run on|have not been run on hardware",
    re.IGNORECASE,
)
"""How one says that something has met no hardware. The table says it, and says where not."""


def rows(table: str) -> dict[str, dict[str, str]]:
    """By step, the cell of each backend."""
    lines = [re.split(r" ?\| ?", line[2:-2]) for line in table.splitlines() if line[:3] == "| `"]
    names = [spec.name for spec in BACKENDS]
    return {line[0].strip("`"): dict(zip(names, line[2:], strict=True)) for line in lines}


def test_a_cell_says_where() -> None:
    found = rows(table_of([ON_CPU, ON_GPU]))
    assert list(found) == [step.name for step in STEPS]
    assert found["load"]["onnxruntime"] == "passed on 1, 2"
    assert found["load"]["tensorrt"] == "passed on 2"
    assert found["lanes"]["onnxruntime"] == "passed on 1; failed on 2"
    assert found["kill"]["onnxruntime"] == NOT_YET
    assert found["graph"]["onnxruntime"] == ""  # no such step


def test_the_machines() -> None:
    first, second = table_of([ON_CPU, ON_GPU]).splitlines()[-2:]
    assert first == (
        "1. AMD EPYC (AuthenticAMD 26 2 1) x 2, no GPU; Linux 6 x86_64, Python 3.11.7, torch "
        "2.13.0; demo-denoise; 2026-01-02, 61 s"
    )
    assert "and NVIDIA L4; " in second and "demo-denoise, S-2 random" in second


def test_the_table_of_no_record() -> None:
    cells = [cell for row in rows(table_of([])).values() for cell in row.values()]
    assert set(cells) == {"", NOT_YET}


def test_the_documentation_has_the_table_of_the_records() -> None:
    assert ACCEPTED
    text = (ROOT / "docs" / "reference" / "what-ran-where.md").read_text("utf-8")
    section = text.split("<!-- generated: what ran where -->\n")[1].split("<!-- end -->")[0]
    assert section == f"{table_of([read_record(path) for path in ACCEPTED])}\n"


def test_the_module_prints_it(tmp_path: Path) -> None:
    for name, record in (("b.json", ON_GPU), ("a.json", ON_CPU)):
        record.write(tmp_path / name)
    files = sorted(tmp_path.iterdir(), reverse=True)
    command = python_process("-m", "maxim_deploy.accept.table", *files)
    done = subprocess.run(**command, capture_output=True, check=True)
    assert done.stdout == table_of([ON_CPU, ON_GPU]) + "\n"


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_a_committed_record_can_be_published(path: Path) -> None:
    record, text = read_record(path), path.read_text("utf-8")
    assert record.counts()[FAILED] == 0 and record.seconds < 20 * 60
    assert not re.search(r"/(home|tmp|root|usr|work|Users)/|\\\\", text)
    assert not str(record.environment["commit"]).endswith("-dirty")


def test_only_the_table_says_what_has_met_no_hardware() -> None:
    folders = ("maxim_deploy", "benchmarks", "docs", "engines", "export")
    files = [ROOT / "README.md", *(p for f in folders for p in (ROOT / f).rglob("*"))]
    texts = [p for p in files if p.suffix in (".py", ".md", ".toml") and p.is_file()]
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in texts
        for match in ELSEWHERE.finditer(" ".join(path.read_text("utf-8").split()))
    ]
    assert found == []
