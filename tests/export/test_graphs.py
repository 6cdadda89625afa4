"""The graphs of a bundle: settings, sharing of weights, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import maxim_deploy
from maxim_deploy.cli.export import _measured
from maxim_deploy.errors import BundleError, ExportError, UsageError
from maxim_deploy.export import BundleSettings
from maxim_deploy.graph.checks import check_no_example_sizes
from maxim_deploy.graph.precision import lowering as lowering_module
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.lowering import Lowering, read_precision_table
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.export_record import GraphRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.precision import LOW

TINY = Architecture(features=4, stages=1, groups=1, bottleneck_blocks=1)


def external_files(graph: Path) -> set[str]:
    model = onnx.load(graph, load_external_data=False)
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


def test_forms_of_one_precision_share_one_weights_file(demo_bundle: Path) -> None:
    for precision in ("fp32", "fp16"):
        for io in ("tensor", "image"):
            graph = demo_bundle / f"{precision}.{io}.onnx"
            assert external_files(graph) == {f"{precision}.weights"}
            assert graph.stat().st_size < 700_000


def test_metadata_says_what_a_graph_is(demo_bundle: Path) -> None:
    model = onnx.load(demo_bundle / "fp16.image.onnx", load_external_data=False)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["form"] == "deployment" and facts["io"] == "image"
    assert facts["precision"] == "fp16" and facts["model.licence"] == "Apache-2.0"
    assert len(facts["model.source_sha256"]) == 64
    sizes = Bundle.open(demo_bundle).manifest.architecture.to_json()
    assert {name: int(facts[f"architecture.{name}"]) for name in sizes} == sizes


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match=r"literal form is exported in fp32 only.*not fp32,fp16"):
        BundleSettings(literal=True)
    with pytest.raises(UsageError, match="unknown precision 'fp8'"):
        BundleSettings(precision=("fp8",))
    with pytest.raises(UsageError, match="unknown I/O form 'tensors'"):
        BundleSettings(io=("tensors",))
    with pytest.raises(UsageError, match="table is for bf16; pass --precision fp32,bf16, not"):
        BundleSettings().with_table(default_table("bf16"))


def test_weights_of_another_precision_are_found(demo_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(demo_bundle, tmp_path / "bundle")
    shutil.copy(bundle / "fp16.weights", bundle / "fp32.weights")
    with pytest.raises(BundleError, match=r"fp32\.weights.*has changed since the export"):
        maxim_deploy.load(bundle)
    maxim_deploy.load(bundle, precision="fp16").close()


def test_the_precision_table_is_written_and_can_be_read_again(demo_bundle: Path) -> None:
    text = (demo_bundle / "fp16.table.txt").read_text()
    assert "spatial-mean" in text and "float32" in text
    table = read_precision_table(demo_bundle / "fp16.table.json")
    assert table.low == "float16"
    nodes = [
        name
        for decision in json.loads((demo_bundle / "fp16.table.json").read_text())["decisions"]
        if decision["pattern"] == "spatial-mean"
        for name in decision["nodes"]
    ]
    # Over columns, then rows, in each of the seven channel attentions.
    assert len(nodes) == 2 * 7 and all("/ReduceMean" in name for name in nodes)


@pytest.mark.parametrize("text", ["{", '{"format": 1}', '{"format": 9, "type": "float16"}'])
def test_a_file_that_is_no_precision_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UsageError, match=r"precision table .*table\.json"):
        read_precision_table(tmp_path / "table.json")
    with pytest.raises(UsageError, match=r"No such file"):
        read_precision_table(tmp_path / "none.json")


@pytest.fixture
def core(demo_bundle: Path) -> ir.Model:
    return ir.load(demo_bundle / "fp32.tensor.onnx")


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering_module, "SMALL", (64, 64))
    monkeypatch.setattr(lowering_module, "LARGE", (64, 128))


def test_a_graph_below_its_gate_is_refused(core, small_pictures, tmp_path, monkeypatch) -> None:
    strict = replace(LOW["fp16"], gate=200.0)
    monkeypatch.setitem(LOW, "fp16", strict)
    lowering = Lowering(core, tmp_path, None, verify=True)
    with pytest.raises(ExportError, match=r"fp16 is \d+\.\d dB .*'chelsea'.*gate is 200 dB.*bf16"):
        lowering.lower("fp16")


def test_values_too_large_for_float16_become_islands(core, small_pictures, tmp_path) -> None:
    """A network whose features grow past float16's range keeps them float32, not infinite."""
    lowering = Lowering(core, tmp_path, None, verify=False)
    name = next(name for name in lowering.seen if "ayer_norm" in name or "gelu" in name)
    lowering.seen[name] = 60_000.0
    lowered = lowering.lower("fp16")
    assert 60_000 in lowered.magnitudes.values()
    tables = [(tmp_path / f"fp16.table.{suffix}").read_text() for suffix in ("txt", "json")]
    assert all("1/8 of its largest value" in text for text in tables)
    # Another machine measures 59,999.9, and makes the same bundle.
    lowering.seen[name] = 59_999.9
    lowering.lower("fp16")
    assert tables == [(tmp_path / f"fp16.table.{suffix}").read_text() for suffix in ("txt", "json")]


def test_a_table_of_ones_own(core, small_pictures, tmp_path) -> None:
    table = PrecisionTable("float16", default_table("fp16").decisions[:3])
    parity = Lowering(core, tmp_path, table, verify=True).lower("fp16").parity
    assert parity[0]["psnr"] > 60


def test_a_graph_that_loses_nothing(core, small_pictures, tmp_path) -> None:
    """No error at all is infinitely many dB, and JSON has no such number."""
    table = PrecisionTable("float16", (Decision("*", "float32", "all of it"),))
    parity = Lowering(core, tmp_path, table, verify=True).lower("fp16").parity
    assert [record["psnr"] for record in parity] == [None] * 5
    json.dumps(parity, allow_nan=False)
    graph = GraphEntry(
        "fp16.tensor.onnx", "fp16", "tensor", None, 20, 1, measured=GraphRecord(parity)
    )
    assert _measured(graph) == ", equal to float32"


@pytest.mark.parametrize("size", [7, 704, 832, 44, 13])
def test_a_baked_size_is_found(core: ir.Model, size: int) -> None:
    example = (7, 3, 704, 832)
    check_no_example_sizes(core, example)
    constant = ir.Value(
        name="shape", const_value=ir.tensor(np.array([-1, size, 8], np.int64), name="shape")
    )
    core.graph.initializers["shape"] = constant
    with pytest.raises(ExportError, match=rf"size {size} is baked into the constant 'shape'"):
        check_no_example_sizes(core, example)
