"""What the layers of an engine move: by hand, of small engines, and of the demo model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from engines.bundles import settings

from maxim_deploy.engines.engine_file import BuildOptions
from maxim_deploy.engines.inspection import inspect_bundle, inspection_text
from maxim_deploy.engines.layers import Layer, Tensor
from maxim_deploy.engines.store import add_engine
from maxim_deploy.engines.traffic import traffic_as_built, traffic_of, traffic_text
from maxim_deploy.errors import EngineError
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.decoding import decoded, encoded
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.profiles import Shape, profiles_from_specs
from maxim_deploy.spec.traffic import Part

DEMO_256 = {
    "layers": 244,
    "bytes_per_pixel": 5042.5,
    "float32_share": 0.0051,
    "moves": 5,
    "moves_share": 0.0159,
}
"""Of the demo model's fp16 image graph at 256x256, with TensorRT for RTX 1.7.1. What changes the
graph or the library's fusions changes these: look at what has become worse, then set them anew."""

TOLERANCE = 0.02
"""Other versions of the library fuse a few layers in another way."""

STEP = "stages/0/encoder/0/groups/steps/0"
IMAGE = Tensor("image", (1, 8, 16, 3), "uint8")
TOKENS, WIDE = Tensor("tokens", (128, 4), "float16"), Tensor("wide", (128, 4), "float32")
WEIGHT = Tensor("w", (3, 4), "float16")
LAYERS = [
    Layer("a", "gemm", ("float16",), (f"{STEP}/Gemm_0",), (IMAGE,), (TOKENS,), (WEIGHT,)),
    Layer("b", "kgen", ("float32",), (f"{STEP}/norm/LayerNormalization_0",), (TOKENS,), (WIDE,)),
    Layer("c", "kgen", ("uint8",), ("crop/rows", "quantise/pixels"), (WIDE,), (IMAGE,)),
    Layer("d", "kgen", ("float16",), ("stages/0/Reshape_0", "Transpose_0"), (TOKENS,), (TOKENS,)),
    Layer("e", "signal", (), ()),
]
IMAGE_BYTES, TOKEN_BYTES = 8 * 16 * 3, 128 * 4 * 2  # 384 and 1024
TOTAL = 2 * IMAGE_BYTES + 4 * TOKEN_BYTES + 2 * 2 * TOKEN_BYTES
PIXELS = 8 * 16


def test_inputs_and_outputs_count_and_weights_do_not() -> None:
    found = traffic_of(LAYERS, Shape(1, 8, 16), 1000)
    assert (found.layers, found.moves, found.activation_bytes) == (5, 1, 1000)
    assert found.bytes_per_pixel == pytest.approx(TOTAL / PIXELS, abs=0.05)
    assert found.float32_share == pytest.approx(2 * 2 * TOKEN_BYTES / TOTAL, abs=1e-4)
    assert found.moves_share == pytest.approx(2 * TOKEN_BYTES / TOTAL, abs=1e-4)
    assert found.by_kind == {
        "LayerNorm": Part(1, 24.0),
        "other": Part(2, 19.0),
        "layout change": Part(1, 16.0),
        "matrix product": Part(1, 11.0),
    }
    # The copy belongs to the block that its input comes from.
    assert found.by_block == {
        "multi-axis gMLP": Part(3, 51.0), "image form": Part(1, 19.0), "other": Part(1, 0.0),
    }  # fmt: skip
    assert [*found.by_kind] == ["LayerNorm", "other", "layout change", "matrix product"]


def test_pixels_are_those_of_the_whole_batch() -> None:
    one, two = (traffic_of(LAYERS, Shape(batch, 8, 16)) for batch in (1, 2))
    assert one.bytes_per_pixel and two.bytes_per_pixel == one.bytes_per_pixel / 2


@pytest.mark.parametrize(
    "spoiled",
    [
        replace(TOKENS, shape=(-1, 4)),
        replace(TOKENS, type="fp4"),
    ],
)
def test_bytes_that_are_unknown_are_not_guessed(spoiled: Tensor) -> None:
    layers = [replace(LAYERS[0], outputs=(spoiled,)), *LAYERS[1:]]
    found = traffic_of(layers, Shape(1, 8, 16))
    assert (found.layers, found.moves, found.bytes_per_pixel) == (5, 1, None)
    assert (found.float32_share, found.moves_share) == (None, None)
    assert found.by_block["multi-axis gMLP"] == Part(3, None)


def test_a_list_without_tensors_tells_counts() -> None:
    old = [replace(layer, inputs=(), outputs=(), constants=()) for layer in LAYERS]
    assert traffic_of(old, Shape(1, 8, 16)).bytes_per_pixel is None


def test_what_an_engines_own_list_tells() -> None:
    def shapes(*specs: str) -> list[Shape | None]:
        found = traffic_as_built(LAYERS, profiles_from_specs(specs, "image"), None)
        return [traffic.shape for traffic in found]

    assert shapes("8x16") == [Shape(1, 8, 16)]
    assert shapes("8x16:8x16:16x16") == [None]
    assert shapes("8x16", "16x16") == [None]  # their layers are in one list
    assert traffic_as_built([], profiles_from_specs(["8x16"], "image"), None) == []


def test_traffic_in_words() -> None:
    first, blocks, kinds = traffic_text(traffic_of(LAYERS, Shape(1, 8, 16), 5000))
    assert first == (
        "traffic at 8x16: 70 bytes per pixel in 5 layers; 45.7 % float32, 22.9 % in layers that "
        "only move data (1); 5 kB of activations"
    )
    assert blocks.startswith("  by block: multi-axis gMLP 72.9 % in 3, image form 27.1 % in 1")
    assert kinds.startswith("  by kind of work: LayerNorm 34.3 % in 1, ")
    (counts,) = traffic_text(traffic_of(LAYERS, None))
    assert counts.startswith("traffic: 5 layers, 1 of them only move data; ")


def test_one_size_needs_no_further_build(trt, bundle: Path) -> None:
    said: list[str] = []
    entry, _ = add_engine(
        bundle, settings("64x64"), BuildOptions(traffic=True, progress=said.append)
    )
    (traffic,) = entry.built.traffic
    assert traffic.shape == Shape(1, 64, 64) and traffic.layers == entry.layers
    assert traffic.bytes_per_pixel and traffic.bytes_per_pixel >= 2 * 3  # the image, in and out
    assert traffic.activation_bytes == entry.memory["activation_bytes"]
    assert said == ["parsing the graph", "building the engine"]


def test_ranges_are_counted_on_demand(trt, bundle: Path) -> None:
    asked, said = settings("64x64:96x128:256x256", "128x128"), []
    plain, _ = add_engine(bundle, asked)
    assert [(one.shape, one.bytes_per_pixel) for one in plain.built.traffic] == [(None, None)]
    assert plain.traffic_of(0) is None

    options = BuildOptions(traffic=True, budget_s=1e-9, progress=said.append)
    entry, is_new = add_engine(bundle, asked, options)
    assert not is_new and replace(entry, built=plain.built) == plain
    assert Bundle.open(bundle).checked_engine(entry)
    assert [one.shape for one in entry.built.traffic] == [Shape(1, 96, 128), Shape(1, 128, 128)]
    assert entry.traffic_of(1) == entry.built.traffic[1] and entry.traffic_of(1).bytes_per_pixel
    assert [line for line in said if "only to count" in line] == [
        "building for 96x128 only to count its traffic",
        "building for 128x128 only to count its traffic",
    ]
    assert Bundle.open(bundle).manifest.engines == [entry]

    said.clear()
    again, _ = add_engine(bundle, asked, options)
    assert again == entry and said == []


def test_an_engine_outlives_a_count_that_fails(trt, bundle: Path, monkeypatch) -> None:
    from maxim_deploy.engines import fixed_builds

    monkeypatch.setattr(fixed_builds, "layers_from_log", lambda messages: [])
    with pytest.raises(EngineError, match="lists no layers, so traffic cannot be counted"):
        add_engine(bundle, settings("64x64:96x128:256x256"), BuildOptions(traffic=True))
    (entry,) = Bundle.open(bundle).manifest.engines
    assert Bundle.open(bundle).checked_engine(entry)


def test_an_entry_of_an_earlier_version(trt, bundle: Path) -> None:
    entry, _ = add_engine(bundle, settings("64x64"))
    fields = json.loads(json.dumps(encoded(entry)))
    del fields["notes"]
    assert decoded(EngineEntry, fields) == replace(entry, notes=[], built=EngineRecord())


def test_the_demo_model(demo_engine: Path) -> None:
    (entry,) = Bundle.open(demo_engine).manifest.engines
    (traffic,) = entry.built.traffic
    assert traffic.shape == Shape(1, 256, 256)
    found = {name: getattr(traffic, name) for name in DEMO_256}
    assert found == pytest.approx(DEMO_256, rel=TOLERANCE, abs=0.002)
    assert traffic.activation_bytes == entry.memory["activation_bytes"]
    for parts in (traffic.by_block, traffic.by_kind):
        assert sum(part.layers for part in parts.values()) == traffic.layers
        moved = sum(part.bytes_per_pixel or math.nan for part in parts.values())
        assert moved == pytest.approx(traffic.bytes_per_pixel, abs=1)
    blocks = {"multi-axis gMLP", "cross gating", "channel attention", "opening", "output"}
    assert blocks <= set(traffic.by_block) and "other" not in traffic.by_block


def test_inspection_tells_traffic_and_bounds(demo_engine: Path) -> None:
    report = inspect_bundle(demo_engine)
    (engine,) = report["engines"]
    (traffic,), (bounds,) = engine["traffic"], engine["bounds"]
    moved = traffic["bytes_per_pixel"] * 256 * 256
    assert bounds["NVIDIA L4"] == pytest.approx(1e3 * moved / 300e9)
    assert "NVIDIA H200" not in bounds  # TensorRT for RTX builds nothing for it
    text = inspection_text(report)
    assert f"traffic at 256x256: {traffic['bytes_per_pixel']:.0f} bytes per pixel" in text
    assert "lower bound by bandwidth, not a measurement: GeForce RTX 3090" in text
