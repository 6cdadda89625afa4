"""Bundles whose files are links: a cache of Hugging Face's, DVC and git-annex, hard links."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from bundles import write_manifest

import maxim_deploy
from maxim_deploy.benchmarks.profile.bundle_profile import profile_bundle
from maxim_deploy.engines.inspection import inspect_bundle
from maxim_deploy.errors import BundleError
from maxim_deploy.graph.cost.cost import cost_of
from maxim_deploy.graph.files import load_graph, save_graph
from maxim_deploy.parity.pictures import Sample
from maxim_deploy.parity.stages import open_stage
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import GraphEntry

IMAGE = np.random.default_rng(0).random((64, 64, 3), np.float32)

FORMS = {
    "tensor": "(float[n,3,h,w] image) => (float[n,3,h,w] restored)",
    "image": "(uint8[n,h,w,3] image) => (uint8[n,h,w,3] restored)",
}
NODES = {
    "tensor": "restored = Conv<pads = [5, 5, 5, 5]>(image, kernel)",
    "image": "a = Cast<to = 1>(image) b = Transpose<perm = [0, 3, 1, 2]>(a) "
    "c = Conv<pads = [5, 5, 5, 5]>(b, kernel) d = Transpose<perm = [0, 2, 3, 1]>(c) "
    "restored = Cast<to = 2>(d)",
}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A bundle of files; its kernel is large enough for the weights file."""
    folder = tmp_path / "plain"
    folder.mkdir()
    kernel = np.random.default_rng(1).standard_normal((3, 3, 11, 11)).astype(np.float32) / 121
    listed = ", ".join(map(str, kernel.ravel()))
    entries = []
    for io, form in FORMS.items():
        text = f'<ir_version: 10, opset_import: ["": 20]> network {form} '
        model = ir.from_onnx_text(
            f"{text} <float[3,3,11,11] kernel = {{ {listed} }}> {{ {NODES[io]} }}"
        )
        for number, node in enumerate(model.graph):
            node.name = f"stages/0/{node.op_type}_{number}"
        save_graph(model, folder / f"fp32.{io}.onnx", "fp32.weights", {"form": "deployment"})
        entries.append(GraphEntry(f"fp32.{io}.onnx", "fp32", io, "fp32.weights", 20, 1))
    write_manifest(folder, *entries, settings={})
    return folder


@pytest.fixture(params=["one store", "folder per file", "hard"])
def linked(request: pytest.FixtureRequest, plain: Path, tmp_path: Path) -> Path:
    """The bundle with links in the place of its files; their targets have other names."""
    folder, store = tmp_path / "linked", tmp_path / "store"
    folder.mkdir()
    for number, file in enumerate(sorted(plain.iterdir())):
        target = store / (str(number) if request.param == "folder per file" else "") / f"b{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        if request.param == "hard":
            os.link(target, folder / file.name)
        else:
            (folder / file.name).symlink_to(target)
    return folder


def test_it_runs(plain: Path, linked: Path) -> None:
    with maxim_deploy.load(plain, threads=1) as one, maxim_deploy.load(linked, threads=1) as other:
        assert np.array_equal(one(IMAGE), other(IMAGE))


def test_it_is_compared(plain: Path, linked: Path) -> None:
    sample = Sample("x", IMAGE)
    for stage in ("fp32", "fp32.image"):
        one, other = (open_stage(f"{folder}:{stage}") for folder in (plain, linked))
        with closing(one), closing(other):
            assert np.array_equal(one.restore(sample), other.restore(sample))
            assert one.facts == other.facts
    with closing(open_stage(str(linked / "fp32.tensor.onnx"))) as alone:
        assert alone.facts["weights"].keys() == {"fp32.weights"}


def test_it_is_counted_profiled_and_inspected(plain: Path, linked: Path) -> None:
    shape = (1, 3, 64, 64)
    assert cost_of(linked / "fp32.tensor.onnx", shape) == cost_of(plain / "fp32.tensor.onnx", shape)
    profile = profile_bundle(Bundle.open(linked), "fp32", (64, 64), runs=1, warmup=0)
    assert profile.wall_ms > 0
    assert {**inspect_bundle(linked), "path": ""} == {**inspect_bundle(plain), "path": ""}


def test_an_engine_is_added_and_the_store_stays(linked: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    from maxim_deploy.engines.store import add_engine
    from maxim_deploy.spec.engine_settings import engine_settings_from

    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("b*")}
    asked = {"library": "tensorrt-rtx", "profiles": ["64x64"], "precision": "fp32", "io": "image"}
    entry, is_new = add_engine(linked, engine_settings_from(asked))
    assert is_new and Bundle.open(linked).checked_engine(entry)
    assert Bundle.open(linked).manifest.engines == [entry]
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("b*")} == before


def test_hashes_are_checked_behind_links(linked: Path) -> None:
    path = (linked / "fp32.weights").resolve()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="fp32.weights' has changed since the export"):
        maxim_deploy.load(linked)


def test_a_link_to_nothing_says_so(plain: Path, tmp_path: Path) -> None:
    (plain / "fp32.weights").unlink()
    (plain / "fp32.weights").symlink_to(tmp_path / "annex/key")
    with pytest.raises(BundleError, match="fp32.weights' is a link to .*annex/key', which is not"):
        maxim_deploy.load(plain)


@pytest.mark.parametrize("location", ["../plain/fp32.weights", "a/b", "/etc/x", "..", "a\\b"])
def test_a_graph_alone_reads_only_beside_it(plain: Path, location: str) -> None:
    import onnx

    model = onnx.load(plain / "fp32.tensor.onnx", load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    (plain / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="outside the graph's folder"):
        load_graph(plain / "g.onnx")
