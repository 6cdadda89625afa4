"""The graph that is rewritten for ONNX Runtime on a CPU: in the bundle, and in the runtime."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import maxim_deploy
from maxim_deploy._files import sha256_of
from maxim_deploy.benchmarks.artifacts import baseline_file
from maxim_deploy.benchmarks.profile.bundle_profile import profile_bundle
from maxim_deploy.benchmarks.subjects import PLAIN, RULES, baseline_subjects
from maxim_deploy.engines.inspection import inspect_bundle, inspection_text
from maxim_deploy.errors import BundleError, ExportError
from maxim_deploy.export import tuned as tuned_module
from maxim_deploy.export.tuned import MIN_FEATURES, tuned_graphs
from maxim_deploy.export.verify import TUNED_ERROR, verify_tuned_form
from maxim_deploy.spec.architecture import VARIANTS
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.export_record import GraphRecord
from maxim_deploy.spec.manifest import GraphEntry

FILE = "fp32.tensor.onnxruntime.onnx"
PICTURE = np.random.default_rng(0).random((64, 90, 3), np.float32)


@pytest.fixture(scope="module")
def demo_bundle(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a graph for ONNX Runtime, which an export leaves out: it is so small."""
    assert Bundle.open(demo_bundle).manifest.tuned_graphs == []
    folder = shutil.copytree(demo_bundle, tmp_path_factory.mktemp("tuned") / "demo")
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    found = [*tuned_graphs(folder, manifest.graphs, verify=True, progress=lambda _: None)]
    path = folder / FILE
    record = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    files = {**manifest.files, FILE: record}
    Bundle(bundle.path, replace(manifest, tuned_graphs=found, files=files)).write()
    return folder


def test_networks_of_published_width_have_one() -> None:
    assert min(one.features for one in VARIANTS.values()) == MIN_FEATURES


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(demo_bundle, tmp_path / "bundle")


def without_tuned_graphs(folder: Path) -> Path:
    """As an earlier version of this package would have written it."""
    opened = Bundle.open(folder)
    files = {name: one for name, one in opened.manifest.files.items() if name != FILE}
    Bundle(opened.path, replace(opened.manifest, tuned_graphs=[], files=files)).write()
    (folder / FILE).unlink()
    return folder


def entries(folder: Path, *names: tuple[str, str]) -> list[GraphEntry]:
    return [Bundle.open(folder).graph(*name) for name in names]


def written(folder: Path, graphs: list[GraphEntry], *, verify: bool = False) -> list[str]:
    found = tuned_graphs(folder, graphs, verify=verify, progress=lambda _: None)
    return [one.file for one in found]


def test_the_manifest_lists_it(demo_bundle: Path) -> None:
    (entry,) = Bundle.open(demo_bundle).manifest.tuned_graphs
    assert (entry.file, entry.of, entry.library) == (FILE, "fp32.tensor.onnx", "onnxruntime")
    graph = onnx.load(demo_bundle / FILE, load_external_data=False)
    assert entry.nodes == len(graph.graph.node)
    assert {one.key: one.value for one in graph.metadata_props}["tuned_for"] == "onnxruntime"
    operators = {node.op_type for node in graph.graph.node}
    assert {"MatMul", "FastGelu", "InstanceNormalization"} <= operators and "Gelu" not in operators


def test_it_shares_the_weights(demo_bundle: Path) -> None:
    def placed(name: str) -> dict[str, list[tuple[str, str]]]:
        model = onnx.load(demo_bundle / name, load_external_data=False)
        return {
            tensor.name: sorted((entry.key, entry.value) for entry in tensor.external_data)
            for tensor in model.graph.initializer
            if tensor.external_data
        }

    plain, tuned = placed("fp32.tensor.onnx"), placed(FILE)
    assert tuned and tuned.items() <= plain.items()
    small = (demo_bundle / FILE).stat().st_size - (demo_bundle / "fp32.tensor.onnx").stat().st_size
    assert small < 400_000


def test_it_was_compared_and_its_memory_measured(demo_bundle: Path) -> None:
    opened = Bundle.open(demo_bundle)
    plain = opened.graph("fp32", "tensor")
    tuned = opened.tuned(plain, "onnxruntime")
    assert 0 < max(one["max_error"] for one in tuned.measured.parity) <= TUNED_ERROR
    memory, other = tuned.measured.run_memory, plain.measured.run_memory
    if memory is not None and other is not None:  # else not Linux
        # A product and its sum are two tensors: 1.31 times was seen of S-2 at 512x512, and 0.90 to
        # 1.31 of this network, whose processes may also keep a block more. To 1024x1024 such a
        # block is extrapolated: 1.43 was seen.
        for side, most in ((192, 1.4), (256, 1.4), (1024, 1.6)):
            assert memory.bytes_for(side * side) <= most * other.bytes_for(side * side)


def test_the_runtime_takes_it(demo_bundle: Path, bundle: Path, monkeypatch) -> None:
    opened = []
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        "onnxruntime.InferenceSession",
        lambda graph, *rest, **options: (
            opened.append(Path(graph).name) if isinstance(graph, str) else None,
            session(graph, *rest, **options),
        )[1],
    )
    with maxim_deploy.load(demo_bundle, precision="fp32", threads=2) as restorer:
        found = restorer(PICTURE)
    with maxim_deploy.load(without_tuned_graphs(bundle), precision="fp32", threads=2) as restorer:
        expected = restorer(PICTURE)
    with maxim_deploy.load(demo_bundle, precision="fp16", threads=1):
        pass
    with maxim_deploy.load(demo_bundle, precision="fp32", threads=1):
        pass  # which gains nothing from it
    assert opened == [FILE, "fp32.tensor.onnx", "fp16.tensor.onnx", "fp32.tensor.onnx"]
    assert 0 < np.abs(found - expected).max() <= TUNED_ERROR


def test_a_plan_follows_its_memory(bundle: Path) -> None:
    def planned() -> int:
        with maxim_deploy.load(bundle, precision="fp32", threads=2) as restorer:
            return restorer.plan(512, 512).bytes

    record = json.loads((bundle / "export.json").read_text())
    before = planned()
    record["graphs"][FILE]["run_bytes_per_pixel"] *= 2
    (bundle / "export.json").write_text(json.dumps(record))
    assert planned() > 1.2 * before


def test_a_changed_file_is_refused(bundle: Path) -> None:
    (bundle / FILE).write_bytes((bundle / FILE).read_bytes() + b"\0")
    with pytest.raises(BundleError, match=rf"{FILE}.*has changed since the export"):
        maxim_deploy.load(bundle, precision="fp32", threads=2)


def test_a_manifest_without_the_key_is_written_without_it(bundle: Path) -> None:
    text = (without_tuned_graphs(bundle) / "manifest.json").read_text()
    assert "tuned_graphs" not in text
    Bundle.open(bundle).write()
    assert (bundle / "manifest.json").read_text() == text


def test_one_of_a_graph_that_is_not_there_is_refused(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    document["tuned_graphs"][0]["of"] = "x.onnx"
    (bundle / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=f"{FILE}' is made from 'x.onnx', which graphs does not"):
        Bundle.open(bundle)


def test_which_graphs_have_one(bundle: Path) -> None:
    image, half = entries(bundle, ("fp32", "image"), ("fp16", "tensor"))
    assert written(bundle, [image, half]) == ["fp32.image.onnxruntime.onnx"]
    assert written(bundle, [half]) == []
    assert written(bundle, [replace(image, form="literal")]) == []
    assert written(bundle, [replace(image, weights=None)]) == []


def test_the_image_form(bundle: Path) -> None:
    (image,) = entries(bundle, ("fp32", "image"))
    memory = GraphRecord(run_bytes=[[1, 2]], run_bytes_per_pixel=3.0)
    image = replace(image, measured=memory)
    (found,) = tuned_graphs(bundle, [image], verify=True, progress=lambda _: None)
    assert all(one["max_levels"] <= 1 for one in found.measured.parity)
    assert found.measured.run_memory == memory.run_memory


def test_a_wrong_one_is_not_kept(bundle: Path, monkeypatch) -> None:
    def wrong(model: ir.Model) -> ir.Model:
        norm = next(node for node in model.graph if node.op_type == "LayerNormalization")
        norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.1)
        return model

    monkeypatch.setattr(tuned_module, "onnxruntime_form", wrong)
    with pytest.raises(ExportError, match=rf"{FILE} differs from fp32.tensor.onnx by .*max_error"):
        written(bundle, entries(bundle, ("fp32", "tensor")), verify=True)


def test_not_a_number_is_a_difference(demo_bundle: Path, monkeypatch) -> None:
    class Session:
        def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [inputs["image"] * np.nan]

    monkeypatch.setattr("maxim_deploy.export.verify._session", lambda _: Session())
    with pytest.raises(ExportError, match="differs from a by nan"):
        verify_tuned_form(Path("a"), Path("b"), "tensor", 0.0)


def test_it_is_inspected_and_profiled(demo_bundle: Path) -> None:
    report = inspect_bundle(demo_bundle)
    assert report["tuned_graphs"][0]["file"] == FILE
    assert f"{FILE}: fp32.tensor.onnx for onnxruntime, " in inspection_text(report)
    profile = profile_bundle(Bundle.open(demo_bundle), "fp32", (64, 64), runs=1, warmup=0)
    kinds = {group.kind for group in profile.groups}
    assert {"matrix product", "GELU", "LayerNorm"} <= kinds
    assert profile.unattributed_ms == 0


def test_the_baselines_that_measure_it(demo_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    (plain,) = baseline_subjects(PLAIN)
    assert baseline_file(plain, bundle, tmp_path, print) == demo_bundle / "fp32.tensor.onnx"
    (rule,) = baseline_subjects(RULES[0])
    made = baseline_file(rule, bundle, tmp_path, print)
    assert "FastGelu" in {node.op_type for node in onnx.load(made).graph.node}
    before = sha256_of(made)
    assert baseline_file(rule, bundle, tmp_path, print) == made and sha256_of(made) == before
