"""Where the time goes: names to blocks, executed nodes to exported ones, traces to tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from benchmarks.fakes import FakeListener
from benchmarks.samples import BOUND, ENVIRONMENT, TRAFFIC
from gpus import L4
from graph.small_graphs import node
from onnx import helper

from maxim_deploy._files import sha256_of
from maxim_deploy.benchmarks import roofline
from maxim_deploy.benchmarks.ceilings import Ceilings
from maxim_deploy.benchmarks.profile import bundle_profile
from maxim_deploy.benchmarks.profile.attribution import sources_of
from maxim_deploy.benchmarks.profile.bundle_profile import profile_bundle
from maxim_deploy.benchmarks.profile.onnxruntime_trace import matched, runs_in
from maxim_deploy.benchmarks.profile.profile import (
    LayerProfile,
    NodeTimes,
    grouped,
)
from maxim_deploy.benchmarks.profile.tables import rows_of, text_of_profile
from maxim_deploy.benchmarks.profile.tensorrt_layers import (
    layer_profiler,
    nodes_of_layers,
)
from maxim_deploy.benchmarks.suite import SuitePlan
from maxim_deploy.benchmarks.suite_run import SuiteRun
from maxim_deploy.engines.layers import Layer, layers_beside, layers_to_json
from maxim_deploy.engines.validity import Validity
from maxim_deploy.errors import BackendError, BundleError, UsageError
from maxim_deploy.machine.facts import environment
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.kinds import KINDS
from maxim_deploy.spec.places import Place
from maxim_deploy.spec.profiles import profiles_from_specs
from maxim_deploy.spec.traffic import Traffic

TWO_STAGES = Architecture(features=8, stages=2, groups=1, bottleneck_blocks=2)


def graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [])


def named(name: str, kind: str, inputs: str, outputs: str) -> onnx.NodeProto:
    made = node(kind, inputs, outputs)
    made.name = name
    return made


EXPORTED = graph(
    named("Shape_0", "Shape", "image", "sizes"),
    named("stages/0/encoder/0/groups/steps/0/norm/LayerNormalization_0", "LayerNormalization",
          "image", "norm"),
    named("stages/0/encoder/0/groups/steps/0/gelu/Gelu_0", "Gelu", "norm", "gelu"),
    named("stages/0/encoder/0/groups/steps/1/conv1/Conv_0", "Conv", "gelu", "conv"),
    named("stages/0/encoder/0/groups/steps/1/LeakyRelu_0", "LeakyRelu", "conv", "relu"),
    named("Split_0", "Split", "relu", "first second"),
    named("stages/0/output/0/Conv_0", "Conv", "first", "out"),
    named("stages/0/Add_0", "Add", "out image", "restored"),
)  # fmt: skip


def test_what_a_runtime_has_fused_renamed_or_taken_apart_finds_its_block() -> None:
    gmlp, attention = (Place(1, "encoder", 0, b) for b in ("multi-axis gMLP", "channel attention"))
    executed = graph(
        named("Pow_1", "Pow", "norm", "inner"),  # GELU taken apart, in float32
        named("", "Mul", "inner", "InsertedPrecisionFreeCast_gelu"),
        named("Reorder", "ReorderInput", "InsertedPrecisionFreeCast_gelu", "blocked"),
        named("relu_nchwc", "Conv", "blocked", "blocked_too"),  # with the activation in it
        named("Reorder_2", "ReorderOutput", "blocked_too", "relu"),
        named("stages/0/output/0/Conv_0", "Conv", "relu", "out"),
        named("Stray", "Cast", "out", "nowhere"),  # found upstream
        named("Alone", "Mystery", "other", "elsewhere"),
    )
    found = [(source.place, source.kind) for source in sources_of(executed, EXPORTED)]
    assert found == [
        (gmlp, "GELU"),
        (gmlp, "GELU"),
        (attention, "layout change"),
        (attention, "convolution"),
        (attention, "layout change"),
        (Place(1, "output", 0), "convolution"),
        (Place(1, "output", 0), "cast"),
        (None, "other"),
    ]


def event(name: str, ts: int, dur: int, operator: str = "") -> dict[str, object]:
    return {"name": name, "ts": ts, "dur": dur, "args": {"op_name": operator} if operator else {}}


def test_a_trace_is_divided_into_runs() -> None:
    events = [
        event("session_initialization", 0, 90),
        event("model_run", 200, 50),
        event("b_kernel_time", 220, 4000, "Conv"),
        event("a_kernel_time", 205, 1000, "Gemm"),
        event("model_run", 100, 60),
        event("a_kernel_time", 110, 2000, "Gemm"),
    ]
    first, second = runs_in(events)
    assert first == (0.06, [("a", "Gemm", 2.0)])
    assert second == (0.05, [("a", "Gemm", 1.0), ("b", "Conv", 4.0)])


def test_a_trace_that_is_not_of_the_saved_graph_is_refused() -> None:
    nodes = [named("a", "Gemm", "x", "y"), named("", "Conv", "y", "z")]
    sources = sources_of(graph(*nodes), EXPORTED)
    good = runs_in([event("model_run", 0, 9), event("a_kernel_time", 1, 1, "Gemm"),
                    event("Conv_7_kernel_time", 2, 1, "Conv")])  # fmt: skip
    assert [times.ms for times in matched(good, nodes, sources)] == [[0.001], [0.001]]
    for wrong in (
        [event("model_run", 0, 9), event("a_kernel_time", 1, 1, "Gemm")],
        [event("model_run", 0, 9), event("x_kernel_time", 1, 1, "Gemm"),
         event("Conv_7_kernel_time", 2, 1, "Conv")],
        [event("model_run", 0, 9), event("a_kernel_time", 1, 1, "Gemm"),
         event("Conv_7_kernel_time", 2, 1, "Mul")],
    ):  # fmt: skip
        with pytest.raises(BackendError, match="cannot be profiled by block"):
            matched(runs_in(wrong), nodes, sources)


def sample() -> LayerProfile:
    groups, unattributed = grouped([
        NodeTimes(Place(1, "encoder", 0, "opening"), "convolution", [1.0, 2.0, 30.0]),
        NodeTimes(Place(1, "encoder", 0, "opening"), "convolution", [3.0, 3.0, 3.0]),
        NodeTimes(Place(1, "encoder", 0, "multi-axis gMLP"), "GELU", [4.0, 4.0, 5.0]),
        NodeTimes(Place(1, "decoder", 0), "mean", [0.01, 0.01, 0.01]),
        NodeTimes(None, "other", [0.5, 0.5, 0.5]),
    ])  # fmt: skip
    return LayerProfile(
        "2026-01-01T00:00:00+00:00", "demo", "S-1", "onnxruntime", "onnxruntime 1.32.0", "cpu",
        "fp32", "image", (100, 130), 1, 2, {"cpu": "x"}, 3, 12.0, 10.0, groups, unattributed, 2.49,
    )  # fmt: skip


def test_groups_are_medians_over_all_runs() -> None:
    profile = sample()
    first = profile.groups[1]
    assert (first.place.block, first.ms, first.nodes) == ("opening", 5.0, 2)
    assert profile.unattributed_ms == 0.5
    assert profile.nodes_ms == pytest.approx(9.51)
    assert profile.by_kind() == {"convolution": 5.0, "GELU": 4.0, "mean": 0.01}
    assert profile.by_block() == {"opening": 5.0, "multi-axis gMLP": 4.0, "rest of decoder": 0.01}
    assert [*profile.by_place().values()] == [{"GELU": 4.0, "convolution": 5.0}, {"mean": 0.01}]


def test_a_profile_as_json() -> None:
    fields = json.loads(json.dumps(sample().to_json()))
    assert (fields["schema"], fields["size"], fields["wall_ms"]) == (2, [100, 130], 12.0)
    assert fields["groups"][1] == {
        "stage": 1, "part": "encoder", "level": 0, "block": "opening", "kind": "convolution",
        "ms": 5.0, "nodes": 2,
    }  # fmt: skip


def test_the_table_adds_up() -> None:
    head, *rows = rows_of(sample())
    assert head == ["", "ms", "share", "convolution", "GELU", "other"]  # the mean is too little
    assert rows == [
        ["stage 1 encoder, level 0", "9.00", "75.0 %", "5.00", "4.00", ""],
        ["stage 1 decoder, level 0", "0.01", "0.1 %", "", "", "0.01"],
        ["not attributed", "0.50", "4.2 %", "", "", ""],
        ["between nodes", "2.49", "20.8 %", "", "", ""],
        ["all", "12.0", "100.0 %", "5.00", "4.00", "0.01"],
    ]
    text = text_of_profile(sample())
    assert "12.0 ms (10.0 ms without the profiler, +20 % with it)" in text
    assert "stage 1 encoder, level 0  9.00   75.0 %" in text
    assert "\nwarning: profiling slowed the network, 1.20 times the time without it" in text
    assert "warning" not in text_of_profile(replace(sample(), plain_ms=11.0))
    assert "warning" not in text_of_profile(replace(sample(), plain_ms=None))


def test_traffic_and_bound_follow_the_table() -> None:
    assert "traffic" not in text_of_profile(sample())
    engine = replace(sample(), traffic=TRAFFIC, bound=BOUND)
    *_, traffic, blocks, kinds, bound = text_of_profile(engine).splitlines()
    assert traffic.startswith("traffic at 60x128: 70 bytes per pixel in 5 layers; 40.0 % float32")
    assert blocks == "  by block: multi-axis gMLP 85.7 % in 4, output 14.3 % in 1"
    assert kinds == "  by kind of work: matrix product 100.0 % in 5"
    assert bound == (
        "  lower bound on NVIDIA L4, not a measurement: 2.5 ms (300 GB/s, 121000 GFLOP/s, NVIDIA "
        "L4 data sheet); a run took 10 ms, so it reached 25 % of the bound"
    )
    fields = json.loads(json.dumps(engine.to_json()))
    assert fields["traffic"]["by_kind"] == {"matrix product": {"layers": 5, "bytes_per_pixel": 70}}
    assert fields["bound"] == BOUND


@pytest.mark.parametrize(("precision", "io"), [("fp32", "tensor"), ("fp16", "image")])
def test_onnxruntime_by_block(demo_bundle: Path, precision: str, io: str) -> None:
    """Every node that ONNX Runtime reports finds its block and is of a known kind."""
    bundle = Bundle.open(demo_bundle)
    profile = profile_bundle(bundle, precision, (64, 100), threads=1, io=io, runs=2, warmup=1)
    assert profile.unattributed_ms == 0
    assert 0 < profile.between_ms < profile.wall_ms
    assert profile.nodes_ms + profile.between_ms == pytest.approx(profile.wall_ms)
    levels = [f"stage 1 {part}, level {level}" for part, levels in
              (("encoder", "012"), ("cross gating", "210"), ("decoder", "210"))
              for level in levels]  # fmt: skip
    levels[3:3] = ["stage 1 bottleneck, block 0"]
    outside = ["image form", "input"] if io == "image" else ["input"]
    assert [*map(str, profile.by_place())] == [*outside, *levels, "stage 1 output, level 0"]
    kinds = profile.by_kind()
    assert set(kinds) <= set(KINDS)
    for kind in ("matrix product", "convolution", "LayerNorm", "GELU", "layout change", "resize"):
        assert kinds[kind] > 0
    assert kinds.get("other", 0) < 0.01 * profile.nodes_ms
    assert ("cast" in kinds) == (precision == "fp16")
    assert 0 < profile.plain_ms < 60_000
    groups = {(g.place.part, g.place.level, g.place.block, g.kind): g.nodes for g in profile.groups}
    # Five norms in a gMLP block, and the gates' two in the GPU's form; six GELUs, and five there.
    # Each that is taken apart is still of the block.
    norms, gelus = (5, 6) if precision == "fp32" else (2, 5 * 9)
    assert groups["encoder", 0, "multi-axis gMLP", "LayerNorm"] == norms
    assert groups["encoder", 0, "multi-axis gMLP", "GELU"] == gelus
    assert json.loads(json.dumps(profile.to_json()))["wall_ms"] == profile.wall_ms


def test_what_cannot_be_profiled_is_refused(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    with pytest.raises(UsageError, match="node times are those of the CPU that launches"):
        profile_bundle(bundle, "fp32", (64, 64), "onnxruntime-cuda")
    with pytest.raises(UsageError, match=r"unknown backend 'tensort' \(did you mean 'tensorrt'"):
        profile_bundle(bundle, "fp32", (64, 64), "tensort")
    with pytest.raises(UsageError, match="a CPU does not run bf16"):
        profile_bundle(bundle, "bf16", (64, 64))
    with pytest.raises(BundleError, match="--engine tensorrt --precision fp16 --profile 64x80"):
        profile_bundle(bundle, "fp16", (64, 80), "tensorrt")


def test_the_picture_is_as_the_form_wants_it(demo_bundle: Path) -> None:
    bundle = Bundle.open(demo_bundle)
    asked = bundle_profile.ProfileRequest(
        bundle, "onnxruntime", "fp32", (65, 100), 2, None, None, 1, 0
    )
    tensor = bundle_profile.random_image(asked.shape("tensor"), "tensor")
    assert (tensor.shape, tensor.dtype) == ((2, 3, 128, 128), "float32")
    image = bundle_profile.random_image(asked.shape("image"), "image")
    assert (image.shape, image.dtype, image.max()) == ((2, 65, 100, 3), "uint8", 254)


@pytest.fixture
def engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[tuple[Bundle, SimpleNamespace]]:
    """A bundle with an engine, and the fakes that it runs on."""
    pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")
    from engines.bundles import tiny_graph, write_bundle
    from runtime import fake_tensorrt
    from runtime.cuda.fakes import FakeRuntime

    from maxim_deploy.runtime import tensorrt_engines
    from maxim_deploy.runtime.cuda import cuda_bindings

    api = FakeRuntime(total=64 << 20)
    trt = fake_tensorrt.fake_module(api)
    trt.__name__, trt.IProfiler, trt.listens = "tensorrt", FakeListener, True
    monkeypatch.setattr(cuda_bindings, "require", lambda *_: api)
    monkeypatch.setattr(tensorrt_engines, "load_library", lambda name: trt)
    monkeypatch.setattr(tensorrt_engines, "find_gpu", lambda device: L4)
    monkeypatch.setattr(tensorrt_engines, "validity_of", lambda *_: Validity())
    execute = fake_tensorrt.FakeContext.execute_async_v3

    def reporting(context: object, stream_handle: int) -> bool:
        if trt.listens:
            assert context.enqueue_emits_profile  # type: ignore[attr-defined]
            for name, ms in (("stages/0/Conv_0_myl0_1", 3.0), ("__myl_Tran_myl0_0", 0.5),
                             ("__myl_Tran_myl0_0", 0.25), ("unheard of", 0.125)):  # fmt: skip
                context.profiler.report_layer_time(name, ms)  # type: ignore[attr-defined]
        return execute(context, stream_handle)

    monkeypatch.setattr(fake_tensorrt.FakeContext, "execute_async_v3", reporting)
    folder = write_bundle(tmp_path / "bundle", tiny_graph())
    yield with_engine(folder, getattr(request, "param", "tensorrt")), trt
    assert not tensorrt_engines._shared, "the engine was left open"
    assert api.used() == 0, "device memory was left"


def with_engine(folder: Path, library: str) -> Bundle:
    bundle = Bundle.open(folder)
    path = folder / "engines" / "x.engine"
    path.parent.mkdir()
    path.write_bytes(b"plan")
    layers = [
        # of the convolution it has the bias only
        Layer("__myl_Tran_myl0_0", "kgen", (), ("stages/0/Transpose_0", "stages/0/Conv_0")),
        Layer("stages/0/Conv_0_myl0_1", "correlation", (), ("stages/0/Conv_0",)),
    ]
    path.with_suffix(".layers.json").write_text(layers_to_json(layers))
    files = bundle.manifest.files
    made_of = {"graph": files["fp16.image.onnx"]["sha256"],
               "weights": files["fp16.weights"]["sha256"], "version_compatible": False}  # fmt: skip
    entry = EngineEntry(
        "engines/x.engine", "a" * 64, made_of, library, "10.14.1", "fp16", "image",
        profiles_from_specs(["64x64:96x128:256x256"], "image"), ("8.9",),
        {"cuda_graphs": "whole-graph", "specialization": "lazy", "runtime_cache": True}, False,
        sha256_of(path), 4, 3, {}, 1, 1, built=EngineRecord(traffic=[TRAFFIC]),
    )  # fmt: skip
    bundle.manifest.engines.append(entry)
    bundle.write()
    return Bundle.open(folder)


def test_tensorrt_by_block(engine: tuple[Bundle, SimpleNamespace]) -> None:
    bundle, trt = engine
    profile = profile_bundle(bundle, "fp16", (64, 96), "tensorrt", runs=3, warmup=1)
    assert profile.by_kind() == {"convolution": 3.0, "elementwise": 0.75}
    assert profile.unattributed_ms == 0.125  # a layer that is in no list
    assert (profile.wall_ms, profile.between_ms, profile.plain_ms) == (3.875, 0.0, None)
    assert (profile.library, profile.device) == ("tensorrt 10.14.1", "cuda:0 NVIDIA L4")
    assert profile.traffic == TRAFFIC
    calls = trt.engines[0].contexts[0].calls
    assert [call[0] for call in calls].count("execute") == 4
    assert ("shape", (1, 64, 96, 3)) in calls


def test_the_profile_of_an_engine_has_its_bound(
    engine: tuple[Bundle, SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> Ceilings:
        raise BackendError("this onnxruntime cannot use 'cuda' here")

    monkeypatch.setattr(roofline, "ceilings", none)
    bundle, _ = engine
    plan = SuitePlan(backends=("tensorrt",), sizes=((64, 96),), precisions=("fp16",))

    def profiled(traffic: list[Traffic]) -> LayerProfile:
        bundle.manifest.engines[:] = [
            replace(bundle.manifest.engines[0], built=EngineRecord(traffic=traffic))
        ]
        run = SuiteRun("p", plan, {"tiny": bundle}, Path(), lambda _: None, ENVIRONMENT, "call")
        (profile,) = run.profiles()
        return profile

    profile = profiled([TRAFFIC])
    assert profile.bound is not None and profile.bound["source"] == "NVIDIA L4 data sheet"
    assert profile.bound["bound_ms"] == pytest.approx(1e3 * 70 * 64 * 96 / 300e9)
    assert profile.bound["share"] == pytest.approx(profile.bound["bound_ms"] / profile.wall_ms)

    counts = replace(TRAFFIC, shape=None, bytes_per_pixel=None)
    uncounted = profiled([counts])
    assert (uncounted.traffic, uncounted.bound) == (counts, None)
    assert "traffic: 5 layers, 1 of them only move data" in text_of_profile(uncounted)
    assert profiled([]).traffic is None


@pytest.mark.parametrize("engine", ["tensorrt-rtx"], indirect=True)
def test_no_graph_is_captured_in_which_no_layer_has_a_time(
    engine: tuple[Bundle, SimpleNamespace],
) -> None:
    bundle, trt = engine
    profile = profile_bundle(bundle, "fp16", (64, 96), "tensorrt-rtx")
    assert profile.by_kind() == {"convolution": 3.0, "elementwise": 0.75}
    (config,) = trt.engines[0].configs
    assert config.cuda_graph_strategy == trt.CudaGraphStrategy.DISABLED
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"


def test_a_profiler_that_hears_nothing_is_an_error(engine: tuple[Bundle, SimpleNamespace]) -> None:
    bundle, trt = engine
    trt.listens = False
    with pytest.raises(BackendError, match="reported no layer to its profiler"):
        profile_bundle(bundle, "fp16", (64, 96), "tensorrt")


def test_layers_without_a_list_are_found_by_their_names() -> None:
    conv, norm = (EXPORTED.node[k].name for k in (3, 1))
    layers = [Layer("whatever", "gemm", (), (norm,))]
    runs = [{f"{conv} + stages/0/encoder/0/groups/steps/1/LeakyRelu_0": 1.0, "0": 2.0},
            {"{ForeignNode[" + conv + "..." + norm + "]}": 5.0}]  # fmt: skip
    found = nodes_of_layers(runs, layers)
    assert [(node.kind, node.ms) for node in found] == [
        ("convolution", [1.0, 0.0]),
        ("LayerNorm", [2.0, 0.0]),  # an engine without names counts its layers
        ("convolution", [0.0, 5.0]),
    ]
    assert all(node.place.part == "encoder" for node in found)


def test_the_bindings_have_what_the_profiler_needs() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    profiler = layer_profiler(trt)
    profiler.report_layer_time("a", 1.0)
    profiler.report_layer_time(layer_name="a", ms=0.5)
    profiler.next_run()
    assert profiler.runs == [{"a": 1.5}]
    assert isinstance(profiler, trt.IProfiler)
    assert {"profiler", "enqueue_emits_profile"} <= set(dir(trt.IExecutionContext))


def test_every_layer_of_a_real_engine_finds_its_block(demo_engine: Path) -> None:
    (entry,) = Bundle.open(demo_engine).manifest.engines
    layers = layers_beside(demo_engine / entry.file)
    nodes = nodes_of_layers([{layer.name: 1.0 for layer in layers}], layers)
    assert len(nodes) > 200
    assert not [node for node in nodes if node.place is None or node.kind == "other"]
    groups, unattributed = grouped(nodes)
    assert unattributed == 0
    assert {g.kind for g in groups} >= {"matrix product", "convolution", "LayerNorm", "GELU"}


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_on_a_gpu(demo_bundle: Path, tmp_path: Path, library: str) -> None:
    if find_gpu(0) is None:
        pytest.skip("no NVIDIA GPU or no driver")
    pytest.importorskip(library.replace("-", "_"))
    from engines.bundles import settings

    from maxim_deploy.engines.store import add_engine

    folder = shutil.copytree(demo_bundle, tmp_path / "bundle")
    add_engine(folder, settings("256x256", library=library))
    bundle, said = Bundle.open(folder), []
    plan = SuitePlan(backends=(library,), sizes=((256, 256),), precisions=("fp16",))
    run = SuiteRun("p", plan, {"demo": bundle}, tmp_path, said.append, environment(), "call")
    (profile,) = run.profiles()
    assert profile.unattributed_ms < 0.02 * profile.wall_ms
    assert profile.traffic is not None and profile.traffic.is_counted
    # Another GPU than those in the table has a bound where ONNX Runtime can measure it.
    assert profile.bound or any("its rates are not known" in line for line in said)
