"""`export.json`: beside the bundle's identity, bounded, checked, and not needed to run."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import write_graph, write_manifest
from spec.samples import entry

from maxim_deploy.errors import BundleError
from maxim_deploy.spec import export_record
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.export_record import EngineRecord, ExportRecord, GraphRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.run_memory import RunMemory

MEASURED = GraphRecord([{"shape": [1], "max_error": 1e-6}], [[64, 100], [128, 150]], 2.5)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_graph(tmp_path / "g.onnx")
    graph = GraphEntry("g.onnx", "fp32", "tensor", None, 20, 1, measured=MEASURED)
    write_manifest(tmp_path, graph, settings={})
    return Bundle.open(tmp_path)


def put(folder: Path, **changes: Any) -> None:
    """Change keys of a bundle's `export.json`."""
    path = folder / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def problem(bundle: Bundle) -> str | None:
    manifest = Bundle.open(bundle.path).manifest
    assert (manifest.export.problem is None) == (manifest.graphs[0].measured == MEASURED)
    return manifest.export.problem


def test_what_was_measured_is_in_the_record_alone(bundle: Bundle) -> None:
    before = (bundle.path / "manifest.json").read_bytes()
    assert bundle.manifest.graphs[0].measured == MEASURED
    assert MEASURED.run_memory == RunMemory([(64, 100), (128, 150)], 2.5)
    assert json.loads(before).keys().isdisjoint({"created", "command", "tools"})
    assert json.loads(before)["graphs"][0].keys().isdisjoint({"parity", "run_bytes", "measured"})
    export = replace(bundle.manifest.export, created="2030-01-01T00:00:00", command="other")
    Bundle(bundle.path, replace(bundle.manifest, export=export)).write()
    assert (bundle.path / "manifest.json").read_bytes() == before
    assert Bundle.open(bundle.path).manifest.export.command == "other"


def test_a_bundle_without_a_record_opens(bundle: Bundle) -> None:
    (bundle.path / "export.json").unlink()
    opened = Bundle.open(bundle.path)
    assert opened.manifest.export == ExportRecord()
    assert opened.manifest.graphs[0].measured.run_memory is None
    opened.require_export_record()  # an engine may be added, which begins a new record


def test_a_record_of_another_bundle_says_nothing(bundle: Bundle, tmp_path: Path) -> None:
    put(bundle.path, bundle="0" * 64)
    assert "belongs to another bundle" in str(problem(bundle))
    with pytest.raises(BundleError, match=f"{tmp_path}.*export.json belongs to another bundle"):
        Bundle.open(bundle.path).require_export_record()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2; this maxim-deploy reads format 1: upgrade"),
        ({"created": "yesterday"}, "Invalid isoformat"),
        ({"tools": {"numpy": 2}}, "tools.numpy must be of type str"),
        ({"graphs": {"g.onnx": {"run_bytes": [[1, 2], [1, 3]]}}}, "the fewest pixels first"),
        ({"graphs": {"g.onnx": {"run_bytes": [[1, -2]]}}}, "run_bytes must be 0 to"),
        ({"graphs": {"g.onnx": {"run_bytes_per_pixel": 1e300}}}, "run_bytes_per_pixel must be 0"),
        ({"graphs": {"g.onnx": {"parity": [{"max_error": "x"}]}}}, "each record of parity must"),
        ({"graphs": {"g.onnx": {"result": "AAAA"}}}, "result must be 49152 bytes"),
        ({"graphs": {"g.onnx": {"result": "not base64"}}}, "is damaged"),
        ({"engines": {"e": {"build_seconds": -1}}}, "build_seconds must be 0 to"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be(bundle: Bundle, changes: dict[str, Any], message: str) -> None:
    put(bundle.path, **changes)
    assert message in str(problem(bundle))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_are_finite(bundle: Bundle, number: str) -> None:
    text = (bundle.path / "export.json").read_text()
    (bundle.path / "export.json").write_text(text.replace("2.5", number))
    assert "is not a finite number" in str(problem(bundle))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format":1}'],
    ids=["empty", "cut", "list", "not UTF-8", "too deep", "no bundle"],
)
def test_something_else_under_its_name(bundle: Bundle, content: bytes) -> None:
    (bundle.path / "export.json").write_bytes(content)
    assert problem(bundle)


def test_its_size_is_bounded(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_record, "MOST_BYTES", 100)
    assert "larger than 100 bytes" in str(problem(bundle))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(bundle: Bundle) -> None:
    (bundle.path / "export.json").unlink()
    os.mkfifo(bundle.path / "export.json")
    assert "not a regular file" in str(problem(bundle))


def test_the_record_of_an_engine_is_that_of_its_file(bundle: Bundle) -> None:
    built = EngineRecord(build_seconds=2.0)
    engine = entry("engines/a.engine", "64x64", sha256="a" * 64, built=built)
    plain = (bundle.path / "manifest.json").read_bytes()
    Bundle(bundle.path, replace(bundle.manifest, engines=[engine])).write()
    with_engine = (bundle.path / "manifest.json").read_bytes()
    assert Bundle.open(bundle.path).manifest.engines[0].built.build_seconds == 2.0
    slower = replace(engine, built=replace(built, build_seconds=9.0, created="2030-01-01"))
    Bundle(bundle.path, replace(bundle.manifest, engines=[slower])).write()
    assert (bundle.path / "manifest.json").read_bytes() == with_engine != plain

    rebuilt = with_engine.replace(b"a" * 64, b"b" * 64)
    (bundle.path / "manifest.json").write_bytes(rebuilt)
    assert Bundle.open(bundle.path).manifest.engines[0].built == EngineRecord()


def test_what_only_a_newer_version_says_is_kept(bundle: Bundle) -> None:
    path = bundle.path / "export.json"
    newer = json.loads(path.read_text()) | {"later": {"a": 1}}
    newer["graphs"]["g.onnx"]["later"] = [2]
    path.write_text(json.dumps(newer))
    Bundle.open(bundle.path).write()
    assert json.loads(path.read_text()) == newer


OF_FORMAT_1 = {
    "tools": {"maxim-deploy": "0.1.0", "torch": "2.13.0"},
    "command": "maxim-export demo-denoise -o '/home/me/my demo'",
    "created": "2026-01-01T00:00:00+00:00",
}


@pytest.fixture
def old(bundle: Bundle) -> dict[str, Any]:
    """The manifest of a bundle as version 0.1.0 wrote it, in the place of the bundle's."""
    engine = entry("engines/a.engine", "64x64", sha256="a" * 64)
    Bundle(bundle.path, replace(bundle.manifest, engines=[engine])).write()
    (bundle.path / "export.json").unlink()
    document: dict[str, Any] = json.loads((bundle.path / "manifest.json").read_text())
    document |= {"format": 1, **OF_FORMAT_1}
    document["graphs"][0] |= {
        "parity": MEASURED.parity, "run_bytes": MEASURED.run_bytes, "run_bytes_per_pixel": 2.5,
    }  # fmt: skip
    document["engines"][0] |= {
        "build_seconds": 3.0, "built_on": {"gpu": None}, "traffic": [],
        "created": "2026-01-02T00:00:00.000+00:00",
    }  # fmt: skip
    (bundle.path / "manifest.json").write_text(json.dumps(document))
    return document


def test_a_bundle_of_format_1(old: dict[str, Any], bundle: Bundle) -> None:
    opened = Bundle.open(bundle.path)
    assert opened.manifest.graphs[0].measured == MEASURED
    assert opened.manifest.engines[0].built.build_seconds == 3.0
    assert opened.manifest.export.command == "maxim-export demo-denoise -o 'my demo'"
    assert opened.manifest.export.created == OF_FORMAT_1["created"]
    assert opened.manifest.export.tools == OF_FORMAT_1["tools"]
    assert opened.checked_graph(opened.manifest.graphs[0]).is_file()

    opened.write()  # as adding an engine does
    document = json.loads((bundle.path / "manifest.json").read_text())
    assert document["format"] == 2 and document.keys() == old.keys() - OF_FORMAT_1.keys()
    assert Bundle.open(bundle.path).manifest == opened.manifest


def test_a_damaged_manifest_of_format_1(old: dict[str, Any], bundle: Bundle) -> None:
    old["graphs"][0]["run_bytes"] = [[1]]
    (bundle.path / "manifest.json").write_text(json.dumps(old))
    with pytest.raises(BundleError, match="manifest.json is damaged .*run_bytes must be pairs"):
        Bundle.open(bundle.path)
    for command in (3, "'"):
        (bundle.path / "manifest.json").write_text(json.dumps(old | {"command": command}))
        with pytest.raises(BundleError, match="manifest.json is damaged"):
            Bundle.open(bundle.path)


def test_a_result_comes_back_as_it_was() -> None:
    result = bytes(range(256)) * 192
    assert GraphRecord().with_result(result).known_result == result
    assert GraphRecord().with_result(None) == GraphRecord() and GraphRecord().known_result is None
