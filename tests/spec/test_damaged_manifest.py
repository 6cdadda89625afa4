"""A manifest or `export.json` with anything wrong in it is told, or does no harm."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundles import write_graph, write_manifest
from spec.samples import asked, entry

from maxim_deploy.engines.identity import ingredients
from maxim_deploy.engines.inspection import inspect_bundle, inspection_text
from maxim_deploy.errors import BundleError
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.decoding import decoded
from maxim_deploy.spec.engines import engine_for
from maxim_deploy.spec.export_record import EngineRecord, ExportRecord, GraphRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.traffic import Part, Traffic

WRONG: tuple[Any, ...] = (None, True, 3, 1.5, "x", [], ["x"], {}, {"x": 1})


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    write_graph(tmp_path / "g.onnx", "g.weights")
    (tmp_path / "g.weights").write_bytes(bytes(4))
    measured = GraphRecord([{"shape": [1], "max_error": 1e-6}], [[1, 2]], 2)
    graph = GraphEntry("g.onnx", "fp16", "image", "g.weights", 20, 1, measured=measured)
    write_manifest(tmp_path, graph, settings={"precision": ["fp16"], "io": ["image"]})
    bundle = Bundle.open(tmp_path)
    made_of = ingredients(bundle, graph, asked(), "1.7", None)
    engine = entry(
        "engines/x.engine", "photo", "64x64", library="tensorrt", precision="fp16", io="image",
        made_of=made_of, memory={"activation_bytes": 7}, runtime=asked().for_runtime(),
        built=EngineRecord(build_seconds=1.5, traffic=[Traffic(None, 1, 0, None, None, None, None,
                                                               {"encoder": Part(1, None)}, {})]),
    )  # fmt: skip
    header = ExportRecord("", "2026-01-01T00:00:00+00:00", "maxim-export", {"numpy": "2"})
    manifest = replace(bundle.manifest, engines=[engine], export=header)
    Bundle(tmp_path, manifest).write()
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines/x.engine").touch()
    loaded: dict[str, Any] = json.loads((tmp_path / "manifest.json").read_text())
    return loaded


def spoilt(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in a document, and what may stand there by mistake; a place may also be gone."""
    places = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(places):
        yield from (((*path, key), wrong) for wrong in WRONG if type(wrong) is not type(value))
        yield (*path, key), ...
        if isinstance(value, (dict, list)):
            yield from spoilt(value, (*path, key))


def put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    if value is ...:
        del document[path[-1]]
    else:
        document[path[-1]] = value


def use(folder: Path) -> None:
    bundle = Bundle.open(folder)
    for name in bundle.manifest.files:
        bundle.checked(name)
    inspection_text(inspect_bundle(folder))
    ingredients(bundle, bundle.graph("fp16", "image"), asked(), "1", None)
    found = engine_for(bundle.manifest.engines, Shape(1, 512, 512), library="tensorrt")
    if found:
        found[0].bytes_for(Shape(1, 512, 512))
        bundle.mismatches(found[0])


def test_whatever_is_wrong(document: dict[str, Any], tmp_path: Path) -> None:
    use(tmp_path)
    refused = tried = 0
    for path, wrong in spoilt(document):
        damaged = copy.deepcopy(document)
        put(damaged, path, wrong)
        (tmp_path / "manifest.json").write_text(json.dumps(damaged))
        tried += 1
        try:
            use(tmp_path)
        except BundleError as error:
            refused += 1
            assert str(tmp_path) in str(error), error
        except Exception as error:
            pytest.fail(f"{path} as {wrong!r}: {error!r}")
    assert tried > 700 and refused > 450  # the rest is free text, or numbers that say nothing


@pytest.mark.usefixtures("document")
def test_whatever_is_wrong_in_an_export_record(tmp_path: Path) -> None:
    """Only who needs the record is told; the bundle opens, and plans without it."""
    text = (tmp_path / "export.json").read_text()
    assert Bundle.open(tmp_path).manifest.export.problem is None
    told = tried = 0
    for path, wrong in spoilt(json.loads(text)):
        damaged = json.loads(text)
        put(damaged, path, wrong)
        (tmp_path / "export.json").write_text(json.dumps(damaged))
        tried += 1
        manifest = Bundle.open(tmp_path).manifest
        if manifest.export.problem is None:
            inspection_text(inspect_bundle(tmp_path))
        if problem := manifest.export.problem:
            told += 1
            assert "export.json" in problem and "delete it (the bundle runs without it)" in problem
            assert manifest.graphs[0].measured == GraphRecord()
    assert tried > 250 and told > 150


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "x"}, r"TypeError\(\"model must be of type dict, not 'x'\"\)"),
        ({"files": {"g.onnx": "x"}}, r"files\.g\.onnx must be of type dict"),
        ({"files": {}}, "files lists no 'g.onnx'"),
        ({"graphs": [3]}, r"graphs\[0\] must be of type dict, not 3"),
    ],
)
def test_where_it_is_wrong(document, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(document | change))
    with pytest.raises(BundleError, match=message):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("runs", [[], [[4096]], [[4096, 7, 8]]])
def test_measured_runs_are_pairs(runs: list[Any]) -> None:
    with pytest.raises(ValueError, match="run_bytes must be pairs"):
        GraphRecord(run_bytes=runs)


@pytest.mark.parametrize("name", ["g.onnx", "g.weights"])
@pytest.mark.usefixtures("document")
def test_a_graph_is_checked_with_its_weights(tmp_path: Path, name: str) -> None:
    bundle = Bundle.open(tmp_path)
    graph = bundle.graph("fp16", "image")
    assert bundle.checked_graph(graph) == tmp_path / "g.onnx"
    assert bundle.digests(graph)["weights"] == bundle.manifest.files["g.weights"]["sha256"]
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(BundleError, match=f"{name}.*has changed since the export"):
        bundle.checked_graph(graph)
    assert bundle.digests(replace(graph, weights=None))["weights"] is None


def test_what_only_a_newer_version_says_is_kept(document: dict[str, Any], tmp_path: Path) -> None:
    newer = copy.deepcopy(document)
    places = (
        newer, newer["model"], newer["architecture"], newer["files"]["g.onnx"],
        newer["graphs"][0], newer["engines"][0],
    )  # fmt: skip
    for place in places:
        place["later"] = {"a": [1, None]}
        place["unknown"] = 1.5
    (tmp_path / "manifest.json").write_text(json.dumps(newer))
    use(tmp_path)

    bundle = Bundle.open(tmp_path)
    first = bundle.manifest.engines[0]
    engines = [replace(first, runtime={}), replace(first, identity="a" * 64, unknown={})]
    Bundle(tmp_path, replace(bundle.manifest, engines=engines)).write()
    newer["engines"] = [
        newer["engines"][0] | {"runtime": {}},
        document["engines"][0] | {"identity": "a" * 64},
    ]
    assert json.loads((tmp_path / "manifest.json").read_text()) == newer


def test_a_key_within_a_profile_is_no_key_to_pass_over(document, tmp_path: Path) -> None:
    document["engines"][0]["profiles"][0]["mni"] = 3
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"profiles\[0\]: unknown key 'mni' \(did you mean 'min'"):
        Bundle.open(tmp_path)


def test_another_format_is_refused(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(document | {"format": 3}))
    with pytest.raises(BundleError, match="format 3; this maxim-deploy reads formats 1 and 2: upg"):
        Bundle.open(tmp_path)


def test_decoded() -> None:
    assert decoded(dict[str, list[float]], {"a": [1, 2.5]}) == {"a": [1, 2.5]}
    assert decoded(tuple[str, ...], ["a"]) == ("a",) == decoded(tuple[str, ...], ("a",))
    assert decoded(str | None, None) is None and decoded(int | None, 3) == 3
    for kind, value in ((int, True), (int, 1.5), (float, "1"), (str | None, 3), (list[int], "12")):
        with pytest.raises(TypeError, match=f"it must be of type .*, not {value!r}"):
            decoded(kind, value)


@pytest.mark.parametrize("place", [("engines", 0, "identity"), ("engines", 0, "sha256"),
                                   ("files", "g.onnx", "sha256")])  # fmt: skip
@pytest.mark.parametrize("value", ["../../../x", "A" * 64, "a" * 63, "a" * 64 + "\n", "é" * 64])
def test_hashes_are_hexadecimal(tmp_path: Path, document: Any, place: Any, value: str) -> None:
    """Files and locks are named after them."""
    put(document, place, value)
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="must be 64 hexadecimal digits, not"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/b", "a\\b", "..", ".", ""])
def test_files_are_bare_names(tmp_path: Path, document: Any, name: str) -> None:
    document["files"][name] = {"sha256": "a" * 64, "bytes": 1}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    for use_file in (Bundle.open(tmp_path).checked, Bundle.open(tmp_path).read):
        with pytest.raises(BundleError, match="lists no file"):
            use_file(name)


def test_graphs_are_onnx_files(tmp_path: Path, document: Any) -> None:
    """By the ending `.ort` ONNX Runtime reads a format of its own."""
    document["graphs"][0]["file"] = "g.ort"
    document["files"]["g.ort"] = document["files"]["g.onnx"]
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"graph 'g\.ort' must end in \.onnx"):
        Bundle.open(tmp_path)
