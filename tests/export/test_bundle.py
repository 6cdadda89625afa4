"""Exports: agreement with the reference, the manifest, replacement, refusal."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import reference
import torch

import maxim_deploy
from maxim_deploy._files import sha256_of
from maxim_deploy.checkpoints import Checkpoint, demo_weights, open_model, read_checkpoint
from maxim_deploy.engines.inspection import inspect_bundle, inspection_text
from maxim_deploy.errors import BundleError, ExportError, UsageError
from maxim_deploy.export import (
    BundleSettings,
    DeploymentMaxim,
    export_bundle,
    graphs,
    onnx_from_module,
)
from maxim_deploy.export import bundle as bundle_module
from maxim_deploy.export.tracing import EXAMPLE_SHAPE
from maxim_deploy.export.verify import (
    IMAGE_SHAPES,
    MAX_ERROR,
    TUNED_ERROR,
    UNSEEN_SHAPES,
    verify_tensor_form,
    verify_tuned_form,
)
from maxim_deploy.graph.checks import check_graph
from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.onnxruntime_form.form import onnxruntime_form
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.pixels import fitted
from maxim_deploy.model import Maxim, module_from_checkpoint
from maxim_deploy.parity import psnr
from maxim_deploy.runtime.info import result_settings
from maxim_deploy.runtime.onnxruntime_backend import OnnxRuntimeCpu
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.precision import LOW

pytestmark = pytest.mark.usefixtures("kept_traces")


class AllOutputs(torch.nn.Module):
    """The literal network with every stage and scale as an output."""

    def __init__(self, network: Maxim) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(image for scales in self.network.all_outputs(image) for image in scales)


@pytest.mark.extended
def test_literal_graph_agrees_with_the_reference(tmp_path: Path, record_property) -> None:
    """S-2, every case, every stage and scale, from one graph of the literal network."""
    names = [f"stage{stage}_scale{scale}" for stage in range(2) for scale in range(3)]
    names[-1] = "output"
    module = AllOutputs(module_from_checkpoint(reference.checkpoint("S-2")))
    save_graph(onnx_from_module(module, names), tmp_path / "all.onnx", "all.weights", {})
    errors = graph_errors(tmp_path / "all.onnx", "S-2")
    record_property("max_errors", errors)
    assert len(errors) == 3 * 6  # three cases
    assert max(errors.values()) <= reference.TOLERANCE, errors


@pytest.mark.xdist_group("S-3")
@pytest.mark.slow
def test_s3_graph_agrees_with_the_reference(tmp_path: Path, record_property) -> None:
    module = DeploymentMaxim(module_from_checkpoint(reference.checkpoint("S-3")))
    save_graph(onnx_from_module(module), tmp_path / "s3.onnx", "s3.weights", {})
    errors = graph_errors(tmp_path / "s3.onnx", "S-3")
    record_property("max_errors", errors)
    assert len(errors) == 2 and max(errors.values()) <= reference.TOLERANCE, errors


def graph_errors(graph: Path, variant: str) -> dict[str, float]:
    """Largest error of each of a graph's outputs that the reference has, by case."""
    session = onnxruntime.InferenceSession(graph)
    names = [output.name for output in session.get_outputs()]
    errors = {}
    for case in reference.CASES[variant]:
        data = reference.load(case)
        for name, found in zip(
            names, session.run(None, {"image": reference.network_input(data)}), strict=True
        ):
            key = "output" if name == "restored" else name
            if key in data:
                error = np.abs(found.transpose(0, 2, 3, 1) - data[key]).max()
                errors[f"{case} {key}"] = float(error)
    return errors


def reference_bundle(variant: str, folder: Path, settings: BundleSettings) -> Path:
    """The reference's parameters, from a file as published; memory is measured of the demo only."""
    np.savez(folder / "w.npz", **reference.published(reference.checkpoint(variant).arrays))
    checkpoint = read_checkpoint(folder / "w.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "measured_run_memory", lambda _: None)
        return export_bundle(checkpoint, folder / variant, settings)[0].path


@pytest.fixture(scope="module")
def s1_bundle(tmp_path_factory: pytest.TempPathFactory, kept_traces: None) -> Path:
    settings = BundleSettings(precision=("fp32",), io=("tensor",), single_file=True)
    return reference_bundle("S-1", tmp_path_factory.mktemp("s1"), settings)


@pytest.fixture(scope="module")
def literal_bundle(tmp_path_factory: pytest.TempPathFactory, kept_traces: None) -> Path:
    """The export compares the graph with the literal network, which is the reference's."""
    settings = BundleSettings(("fp32",), ("image",), literal=True, single_file=True)
    return reference_bundle("S-1", tmp_path_factory.mktemp("literal"), settings)


@pytest.mark.xdist_group("literal S-1")
@pytest.mark.slow
def test_literal_in_a_single_file(literal_bundle: Path) -> None:
    names = {path.name for path in literal_bundle.iterdir()}
    assert names == {"fp32.image.onnx", "source.safetensors", "manifest.json", "export.json"}
    model = onnx.load(literal_bundle / "fp32.image.onnx", load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert {entry.key: entry.value for entry in model.metadata_props}["form"] == "literal"
    operators = {node.op_type for node in model.graph.node}
    assert "ConvTranspose" in operators and "Gemm" not in operators


@pytest.mark.xdist_group("literal S-1")
@pytest.mark.slow
def test_an_image_form_alone_is_served(literal_bundle: Path) -> None:
    """What only the tensor form can do is refused."""
    with maxim_deploy.load(literal_bundle) as restorer:
        assert restorer.info.io == "image"
        data = reference.load("S-1_n1_64x64")
        expected = np.rint(data["output"][0].clip(0, 1) * 255)
        assert np.abs(restorer(data["input_u8"][0]) - expected).max() <= 1
        image = np.random.default_rng(0).integers(0, 256, (37, 90, 3), np.uint8)
        session = onnxruntime.InferenceSession(literal_bundle / "fp32.image.onnx")
        expected = session.run(None, {"image": image[None]})[0][0]
        assert np.array_equal(restorer(image), expected)
        with pytest.raises(UsageError, match="the image form only, which takes uint8.*not uint16"):
            restorer(image.astype(np.uint16))
        with pytest.raises(UsageError, match="'truncate'; export it again with --io image,tensor"):
            restorer(image, rounding="truncate")


@pytest.fixture(scope="module")
def s2_bundle(tmp_path_factory: pytest.TempPathFactory, kept_traces: None) -> Path:
    """Both precisions, both forms. What an export would verify, the tests of it do."""
    settings = BundleSettings(verify=False)
    return reference_bundle("S-2", tmp_path_factory.mktemp("s2"), settings)


@pytest.mark.xdist_group("S-2")
@pytest.mark.slow
def test_deployment_graph_of_s2(s2_bundle: Path, record_property) -> None:
    errors = graph_errors(s2_bundle / "fp32.tensor.onnx", "S-2")
    record_property("max_errors", errors)
    assert len(errors) == 3 and max(errors.values()) <= reference.TOLERANCE, errors
    nodes = onnx.load(s2_bundle / "fp32.tensor.onnx", load_external_data=False).graph.node
    assert len(nodes) <= 2900
    # Half of the literal graph's 634, and six that go with Resize: TensorRT fuses them, and without
    # them it gathers each Resize out of 16 tensors of full size, 42 GB for a 1080p frame.
    assert sum(node.op_type == "Transpose" for node in nodes) <= 317 + 6


LARGE = pytest.param((1088, 1920), marks=pytest.mark.extended)


@pytest.mark.xdist_group("S-2")
@pytest.mark.slow
@pytest.mark.parametrize("size", [(256, 256), LARGE])
def test_fp16_of_s2(s2_bundle: Path, size: tuple[int, int], record_property) -> None:
    check_fp16(s2_bundle, size, record_property)


@pytest.mark.parametrize("size", [(256, 256), (512, 768), LARGE])
def test_fp16_of_the_demo(demo_bundle: Path, size: tuple[int, int], record_property) -> None:
    check_fp16(demo_bundle, size, record_property)


def check_fp16(bundle: Path, size: tuple[int, int], record_property) -> None:
    """float16 against float32 on a photograph, in both forms."""
    photo = read_image(demo_weights().with_name("chelsea.png")).rgb
    picture = fitted(photo, *size)[None]
    unit = np.ascontiguousarray((picture / np.float32(255)).transpose(0, 3, 1, 2), np.float32)
    restored = {
        (precision, io): OnnxRuntimeCpu(bundle / f"{precision}.{io}.onnx").run(
            unit if io == "tensor" else picture
        )
        for precision in ("fp32", "fp16")
        for io in ("tensor", "image")
    }
    tensors = [np.clip(restored[precision, "tensor"], 0, 1) for precision in ("fp32", "fp16")]
    images = [restored[precision, "image"].astype(np.int16) for precision in ("fp32", "fp16")]
    measured = {
        "tensor_psnr": psnr(*tensors, peak=1),
        "tensor_max": float(np.abs(tensors[0] - tensors[1]).max()),
        "image_psnr": psnr(*images, peak=255),
        "image_levels": int(np.abs(images[0] - images[1]).max()),
    }
    record_property("fp16", measured)
    assert measured["tensor_psnr"] >= 60 and measured["tensor_max"] <= 1 / 255, measured
    assert measured["image_psnr"] >= 55 and measured["image_levels"] <= 2, measured


def test_fp16_restores_as_well(demo_bundle: Path) -> None:
    data = reference.load("demo_expected")
    quality = []
    for precision in ("fp32", "fp16"):
        with maxim_deploy.load(demo_bundle, precision=precision) as restorer:
            restored = np.clip(restorer(data["noisy"][0]), 0, 1)
        quality.append(psnr(restored * 255, data["clean_u8"][0], peak=255))
    assert quality[0] > 30.9 and abs(quality[0] - quality[1]) < 0.01


def test_fp16_weights_are_half_the_size(demo_bundle: Path) -> None:
    sizes = [(demo_bundle / f"{name}.weights").stat().st_size for name in ("fp32", "fp16")]
    # Small tensors stay in the graph; the GPU's form has rows of zeros.
    assert 0.49 < sizes[1] / sizes[0] < 0.54


@pytest.mark.xdist_group("S-1")
@pytest.mark.slow
def test_bundle_agrees_with_the_reference(s1_bundle: Path, record_property) -> None:
    errors = graph_errors(s1_bundle / "fp32.tensor.onnx", "S-1")
    record_property("max_errors", errors)
    assert len(errors) == 2 and max(errors.values()) <= reference.TOLERANCE, errors


@pytest.mark.xdist_group("S-1")
@pytest.mark.slow
def test_the_form_for_onnxruntime_agrees_as_well(
    s1_bundle: Path, tmp_path: Path, record_property
) -> None:
    plain, tuned = s1_bundle / "fp32.tensor.onnx", tmp_path / "fp32.tensor.onnxruntime.onnx"
    ir.save(onnxruntime_form(ir.load(plain)), tuned)
    errors = graph_errors(tuned, "S-1")
    record_property("max_errors", errors)
    assert len(errors) == 2 and max(errors.values()) <= reference.TOLERANCE, errors
    for record in verify_tuned_form(plain, tuned, "tensor", 0.0):
        assert 0 < record["max_error"] <= TUNED_ERROR == 5e-6


@pytest.mark.xdist_group("S-1")
@pytest.mark.slow
def test_published_evaluation_of_an_odd_sized_image(s1_bundle: Path) -> None:
    """The whole pipeline, from checkpoint file to 8-bit picture, on 37x90 pixels."""
    data = reference.load("pipeline_S-1_37x90")
    image = data["image_u8"]
    with maxim_deploy.load(s1_bundle) as restorer:
        restored = restorer(image.astype(np.float32) / np.float32(255))
        assert np.abs(restored - data["output"]).max() <= reference.TOLERANCE
        assert np.array_equal(restorer(image, rounding="truncate"), data["output_u8"])
        assert restorer.info.variant == "S-1"


def test_manifest(demo_bundle: Path) -> None:
    manifest = json.loads((demo_bundle / "manifest.json").read_text())
    on_disk = {path.name for path in demo_bundle.iterdir()}
    assert on_disk == {*manifest["files"], "manifest.json", "export.json"}
    measured = json.loads((demo_bundle / "export.json").read_text())
    assert on_disk == {
        "fp32.tensor.onnx", "fp32.image.onnx", "fp32.weights", "fp16.tensor.onnx",
        "fp16.image.onnx", "fp16.weights", "fp16.table.txt", "fp16.table.json",
        "source.safetensors", "LICENSE", "manifest.json", "export.json",
    }  # fmt: skip
    for name, record in manifest["files"].items():
        assert record["sha256"] == sha256_of(demo_bundle / name)
        assert record["bytes"] == (demo_bundle / name).stat().st_size
    graphs = measured["graphs"]
    assert graphs.keys() == {entry["file"] for entry in manifest["graphs"]}
    if sys.platform == "linux":
        taken = {file[:4]: entry["run_bytes_per_pixel"] for file, entry in graphs.items()}
        assert 400 < taken["fp32"] < 460 < taken["fp16"] < 600
        small = {file[:4]: dict(entry["run_bytes"]) for file, entry in graphs.items()}
        assert list(small["fp32"]) == [64**2, 128**2, 192**2, 256**2]
        assert 5e6 < small["fp32"][64**2] < 10e6 and 1e6 < small["fp16"][64**2] < 5e6
    exact = graphs["fp32.tensor.onnx"]["parity"]
    assert [tuple(record["shape"]) for record in exact] == list(UNSEEN_SHAPES)
    assert 0 < max(record["max_error"] for record in exact) <= MAX_ERROR
    assert [tuple(r["shape"]) for r in graphs["fp16.image.onnx"]["parity"]] == list(IMAGE_SHAPES)
    pictures = [record["picture"] for record in graphs["fp16.tensor.onnx"]["parity"]]
    assert pictures == ["chelsea", "black", "white", "checkerboard", "saturated noise"]
    assert graphs["fp16.tensor.onnx"]["parity"][0]["psnr"] >= LOW["fp16"].gate
    assert manifest["model"]["source"] == "demo-denoise.safetensors"
    assert graphs["fp16.tensor.onnx"]["magnitudes"] and not graphs["fp32.tensor.onnx"]["magnitudes"]
    tools = {"maxim-deploy", "python", "torch", "onnx", "onnx-ir", "onnxscript", "numpy"}
    assert measured["tools"].keys() >= tools
    assert measured["tools"].keys() & {"onnxruntime", "onnxruntime-gpu"}
    assert measured["machine"].keys() == {"cpu", "cpu_id", "cpus", "ram_bytes", "os"}


def test_every_graph_has_the_form_of_its_precision(demo_bundle: Path) -> None:
    report = inspect_bundle(demo_bundle)
    assert {graph["file"]: graph["form"] for graph in report["graphs"]} == {
        f"{precision}.{io}.onnx": form
        for precision, form in (("fp32", "cpu"), ("fp16", "gpu"))
        for io in ("image", "tensor")
    }
    assert "fp16.tensor.onnx: gpu form, opset 20, " in inspection_text(report)


def test_forms_for_engines() -> None:
    def forms(choice: str) -> list[str]:
        settings = BundleSettings(("fp32", "fp16", "bf16"), form=choice)
        return [settings.form_of(precision) for precision in settings.precision]

    assert forms("auto") == ["cpu", "gpu", "gpu"]
    assert forms("auto-range") == ["cpu", "gpu-range", "gpu-range"]
    assert forms("gpu") == ["gpu"] * 3
    with pytest.raises(UsageError, match="unknown deployment form 'gpu-rang' .did you mean 'gpu-r"):
        forms("gpu-rang")


def test_an_engine_for_other_sizes_takes_the_form_that_is_there(demo_bundle: Path) -> None:
    model, asked = open_model("demo-denoise"), BundleSettings(form="auto-range")
    _, is_new = export_bundle(model, demo_bundle, asked, allow_more=True)
    assert not is_new
    with pytest.raises(BundleError, match="form: auto there, auto-range now"):
        export_bundle(model, demo_bundle, asked)
    with pytest.raises(BundleError, match="form: auto there, gpu now"):
        export_bundle(model, demo_bundle, BundleSettings(form="gpu"), allow_more=True)


def test_the_sizes_of_the_check_are_new_to_the_graph() -> None:
    for batch, _, height, width in UNSEEN_SHAPES:
        assert not {(batch, 0), (height, 2), (width, 3)} & {
            (size, axis) for axis, size in enumerate(EXAMPLE_SHAPE)
        }


def test_graph_file(demo_bundle: Path) -> None:
    model = onnx.load(demo_bundle / "fp32.tensor.onnx")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["model.name"] == "demo-denoise" and facts["precision"] == "fp32"
    assert [entry.version for entry in model.opset_import if not entry.domain] == [20]
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert any(name.startswith("stages/0/encoder/") for name in names)
    assert str(Path(__file__).parents[2]).encode() not in model.SerializeToString()
    assert not any(node.metadata_props for node in model.graph.node)
    # The tracer writes sets there, whose order is another in each process.
    assert not model.graph.metadata_props
    assert (model.producer_name, model.producer_version) == ("maxim-deploy", "")
    assert "producer" not in facts


def test_source_weights_survive(demo_bundle: Path) -> None:
    kept, original = read_checkpoint(demo_bundle / "source.safetensors"), open_model("demo-denoise")
    assert kept.descriptor == original.descriptor
    assert kept.architecture == original.architecture
    assert kept.arrays.keys() == original.arrays.keys()
    assert all(np.array_equal(kept.arrays[k], original.arrays[k]) for k in kept.arrays)


@pytest.fixture
def no_tracing(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the slow part by copying the demo's graphs; the list says how often it ran."""
    calls: list[str] = []
    manifest = Bundle.open(demo_bundle).manifest

    class Copier:
        def __init__(self, folder: Path, *_) -> None:
            self.folder = folder

        def write(self):
            calls.append(self.folder.name)
            for name in set(manifest.files) - {"source.safetensors", "LICENSE"}:
                (self.folder / name).write_bytes((demo_bundle / name).read_bytes())
            return manifest.graphs

    monkeypatch.setattr(bundle_module, "GraphWriter", Copier)
    return calls


def test_an_equal_bundle_is_left_alone(tmp_path: Path, no_tracing: list[str]) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "parents" / "bundle"
    assert export_bundle(demo, folder)[1] and len(no_tracing) == 1
    stamp = (folder / "manifest.json").stat().st_mtime_ns
    assert not export_bundle(demo, folder)[1] and len(no_tracing) == 1
    assert (folder / "manifest.json").stat().st_mtime_ns == stamp
    same = BundleSettings(precision=("fp16", "fp32"), io=("tensor", "image"))
    assert not export_bundle(demo, folder, same)[1]
    assert export_bundle(demo, folder, force=True)[1] and len(no_tracing) == 2
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_what_a_kill_has_left_in_a_bundle_is_ours(tmp_path: Path, no_tracing) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    export_bundle(demo, folder)
    (folder / ".manifest.json.0123456789ab.partial").touch()  # an engine was being listed
    (folder / ".export.json.0123456789ab.partial").touch()
    assert not export_bundle(demo, folder)[1]
    assert export_bundle(demo, folder, force=True)[1]


def test_equal_exports_differ_in_the_record_alone(tmp_path: Path, no_tracing, monkeypatch) -> None:
    demo, folders = open_model("demo-denoise"), (tmp_path / "a/b", tmp_path / "c")
    export_bundle(demo, folders[0], command="maxim-export demo-denoise -o b")
    monkeypatch.setattr(bundle_module, "machine_facts", lambda: {"cpu": "another"})
    monkeypatch.setattr(bundle_module, "library_versions", lambda: {"torch": "9.9"})
    export_bundle(demo, folders[1], command="maxim-export demo-denoise -o c")
    first, second = ({p.name: p.read_bytes() for p in one.iterdir()} for one in folders)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == ["export.json"]
    export = Bundle.open(folders[1]).manifest.export
    assert export.machine == {"cpu": "another"} and export.tools["torch"] == "9.9"
    settings = [result_settings(one, {}) for one in folders]
    assert settings[0] == settings[1]  # `--resume` takes one for the other


@pytest.mark.parametrize("content", [None, "damaged"])
def test_a_bundle_without_its_record_is_up_to_date(
    tmp_path: Path, no_tracing: list[str], content: str | None
) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    export_bundle(demo, folder)
    (folder / "export.json").unlink()
    if content:
        (folder / "export.json").write_text(content)
    assert not export_bundle(demo, folder)[1]
    assert export_bundle(demo, folder, force=True)[1]
    assert Bundle.open(folder).manifest.export.problem is None


def test_licences(tmp_path: Path, no_tracing: list[str]) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    own = dataclasses.replace(demo, descriptor=dataclasses.replace(demo.descriptor, licence=None))
    export_bundle(demo, folder)
    assert "Apache License" in (folder / "LICENSE").read_text()
    Bundle.open(folder).checked("LICENSE")
    export_bundle(own, folder, force=True)
    assert not (folder / "LICENSE").exists()
    with pytest.raises(BundleError, match=r"other settings \(licence: None there, [0-9a-f]{64}"):
        export_bundle(own, folder, licence="mine")
    export_bundle(demo, folder, licence="mine", force=True)
    assert (folder / "LICENSE").read_text() == "mine"
    assert Bundle.open(folder).manifest.model.licence is None
    assert not export_bundle(demo, folder, licence="mine")[1]


def test_another_checkpoint_or_setting_is_refused(tmp_path: Path, no_tracing: list[str]) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    export_bundle(demo, folder)
    other = dataclasses.replace(
        demo, descriptor=dataclasses.replace(demo.descriptor, source_sha256="f" * 64)
    )
    with pytest.raises(BundleError, match=rf"{demo.descriptor.source_sha256}.*{'f' * 64}.*--force"):
        export_bundle(other, folder)
    with pytest.raises(BundleError, match="source: True there, False now"):
        export_bundle(demo, folder, BundleSettings(source=False))
    assert len(no_tracing) == 1
    export_bundle(other, folder, BundleSettings(source=False), force=True)
    assert Bundle.open(folder).manifest.model.source_sha256 == "f" * 64
    assert not (folder / "source.safetensors").exists()


def test_changed_weights_that_name_the_same_source_are_refused(tmp_path: Path, no_tracing) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    export_bundle(demo, folder)
    name = next(iter(demo.arrays))
    tuned = dataclasses.replace(demo, arrays={**demo.arrays, name: demo.arrays[name] + 1})
    with pytest.raises(BundleError, match="made from other weights that name the same source"):
        export_bundle(tuned, folder)


def test_something_else_is_never_replaced(tmp_path: Path, no_tracing: list[str]) -> None:
    (tmp_path / "photo.jpg").touch()
    website = tmp_path / "website"  # has a manifest.json, but not of ours
    website.mkdir()
    for name in ("manifest.json", "index.html"):
        (website / name).write_text("{}")
    refused = {
        tmp_path: "is not a bundle; choose another name",
        tmp_path / "photo.jpg": "is not a bundle; choose another name",
        website: r"files that do not belong to a bundle \(index\.html\); choose another name",
    }
    for folder, message in refused.items():
        for force in (False, True):
            with pytest.raises(BundleError, match=message):
                export_bundle(open_model("demo-denoise"), folder, force=force)
    assert not no_tracing and (website / "index.html").exists()


def test_a_damaged_bundle_can_be_replaced(tmp_path: Path, no_tracing: list[str]) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/manifest.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        export_bundle(open_model("demo-denoise"), tmp_path / "bundle")
    export_bundle(open_model("demo-denoise"), tmp_path / "bundle", force=True)
    Bundle.open(tmp_path / "bundle")


def test_what_another_process_exported_meanwhile_stays(tmp_path: Path, no_tracing, monkeypatch):
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    fill = bundle_module._fill

    def slowly(*arguments):
        fill(*arguments)
        monkeypatch.setattr(bundle_module, "_fill", fill)
        export_bundle(demo, folder, BundleSettings(source=False))

    monkeypatch.setattr(bundle_module, "_fill", slowly)
    with pytest.raises(BundleError, match="another process has exported into .*; run again"):
        export_bundle(demo, folder)
    assert Bundle.open(folder).manifest.source is None
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    export_bundle(demo, folder, force=True)
    assert Bundle.open(folder).manifest.source == "source.safetensors"


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_bundle_with_a_damaged_file_is_not_up_to_date(
    tmp_path: Path, no_tracing: list[str], how: str
) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    export_bundle(demo, folder)
    weights = folder / "fp16.weights"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        weights.unlink()
    with pytest.raises(BundleError, match=r"fp16\.weights.*export the bundle again with --force"):
        export_bundle(demo, folder)
    export_bundle(demo, folder, force=True)
    assert not export_bundle(demo, folder)[1]


def test_the_folder_that_one_is_in(tmp_path: Path, no_tracing, monkeypatch) -> None:
    demo = open_model("demo-denoise")
    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path / "bundle")
    bundle, is_new = export_bundle(demo, Path())
    assert is_new and bundle.path == tmp_path / "bundle"
    monkeypatch.chdir(tmp_path / "bundle")  # it is another folder now
    assert Bundle.open(".").manifest == bundle.manifest
    assert not export_bundle(demo, Path())[1]
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", "/"):
        monkeypatch.chdir(path)
        with pytest.raises(BundleError, match="is not a bundle: there is no manifest"):
            Bundle.open("")


@pytest.mark.parametrize("there", ["a bundle", "nothing"])
def test_what_a_link_points_at_is_replaced(tmp_path: Path, no_tracing, there: str) -> None:
    demo, link = open_model("demo-denoise"), tmp_path / "link"
    (tmp_path / "disk").mkdir()
    link.symlink_to(tmp_path / "disk" / "bundle")
    if there == "a bundle":
        export_bundle(demo, tmp_path / "disk" / "bundle", BundleSettings(source=False))
    assert export_bundle(demo, link, force=True)[1]
    assert link.is_symlink() and (tmp_path / "disk/bundle/source.safetensors").exists()
    everything = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*")}
    assert everything == {"disk", "link"}
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["bundle"]
    (tmp_path / "disk/bundle").rename(tmp_path / "disk/.bundle.previous")  # a kill at this moment
    assert Bundle.open(link).manifest.source == "source.safetensors"


def test_a_failed_export_leaves_the_old_bundle(tmp_path: Path, no_tracing, monkeypatch) -> None:
    demo, folder = open_model("demo-denoise"), tmp_path / "bundle"
    export_bundle(demo, folder)
    before = {path.name: sha256_of(path) for path in folder.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_module, "write_safetensors", full)
    with pytest.raises(BundleError, match="No space left on device"):
        export_bundle(demo, folder, force=True)
    assert {path.name: sha256_of(path) for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_graph_that_disagrees_is_refused(demo_bundle: Path) -> None:
    module = module_from_checkpoint(open_model("demo-denoise"))
    for layer in module.modules():
        if isinstance(layer, torch.nn.LayerNorm):
            layer.eps = 1e-5
    with pytest.raises(
        ExportError, match=r"differs from PyTorch by .* at 1x3x64x64; at most 1e-05"
    ):
        verify_tensor_form(module, demo_bundle / "fp32.tensor.onnx")
    broken = module_from_checkpoint(open_model("demo-denoise"))
    broken.get_submodule("stage_0_output_conv_0").bias.fill_(float("nan"))
    with pytest.raises(ExportError, match=r"differs from PyTorch by nan at"):
        verify_tensor_form(broken, demo_bundle / "fp32.tensor.onnx")


def test_a_form_that_low_precision_alone_has_is_compared_too(demo_bundle: Path) -> None:
    """Low precision is measured against a float32 graph of its form, which is not kept."""
    checkpoint = open_model("demo-denoise")
    writer = graphs.GraphWriter(demo_bundle, checkpoint, BundleSettings(), None, lambda _: None)
    core, network = ir.load(demo_bundle / "fp32.tensor.onnx"), module_from_checkpoint(checkpoint)
    writer._check_core(core, network)
    for parameter in network.parameters():
        parameter.mul_(1.01)
    with pytest.raises(ExportError, match=r"core.onnx differs from PyTorch by .* was not kept"):
        writer._check_core(core, network)


@pytest.mark.parametrize("fault", ["fixed height", "renamed output", "float16 input", "no weights"])
def test_a_malformed_graph_is_refused(demo_bundle: Path, tmp_path: Path, fault: str) -> None:
    model = onnx.load(demo_bundle / "fp32.tensor.onnx", load_external_data=False)
    image = model.graph.input[0].type.tensor_type
    if fault == "fixed height":
        image.shape.dim[2].dim_value = 192
    elif fault == "renamed output":
        model.graph.output[0].name = "out"
    elif fault == "float16 input":
        image.elem_type = onnx.TensorProto.FLOAT16
    if fault != "no weights":
        shutil.copy(demo_bundle / "fp32.weights", tmp_path)
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(ExportError, match=r"graph\.onnx"):
        check_graph(tmp_path / "graph.onnx", "tensor")


@pytest.mark.slow
def test_the_planar_form_shares_the_weights(tmp_path: Path) -> None:
    architecture = Architecture(features=4, stages=1, groups=1, bottleneck_blocks=1)
    checkpoint = Checkpoint(reference.parameters(architecture), architecture, Descriptor("tiny"))
    settings = BundleSettings(("fp32",), ("tensor", "planar"))
    bundle, _ = export_bundle(checkpoint, tmp_path / "shared", settings)
    entry = bundle.graph("fp32", "planar")
    assert (entry.file, entry.weights) == ("fp32.planar.onnx", "fp32.weights")
    assert max(record["max_error"] for record in entry.measured.parity) <= MAX_ERROR
    metadata = ir.load(bundle.path / entry.file).metadata_props
    assert (metadata["io"], metadata["io_type"]) == ("planar", "fp32")

    # With float16 outside, on its own and embedded: another bundle, which an export says.
    half = dataclasses.replace(settings, io=("planar",), io_type="fp16", single_file=True)
    with pytest.raises(BundleError, match="io_type: fp32 there, fp16 now"):
        export_bundle(checkpoint, bundle.path, half)
    bundle, _ = export_bundle(checkpoint, tmp_path / "half", half)
    (entry,) = bundle.manifest.graphs
    running = onnxruntime.InferenceSession(bundle.path / entry.file)
    image = np.random.default_rng(0).random((2, 3, 5, 7)).astype(np.float16)
    (output,) = running.run(None, {"input": image})
    assert output.dtype == np.float16 and output.shape == image.shape and entry.weights is None
    assert not (bundle.path / "fp32.weights").exists()


def test_a_type_is_for_the_planar_form() -> None:
    with pytest.raises(UsageError, match="--io-type fp16 is for the planar form"):
        BundleSettings(io_type="fp16")
    with pytest.raises(UsageError, match="unknown I/O type 'bf16'"):
        BundleSettings(io=("planar",), io_type="bf16")
