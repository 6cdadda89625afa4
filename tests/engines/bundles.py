"""A bundle with a network so small that an engine of it takes a fraction of a second to build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from bundles import write_manifest

from maxim_deploy._files import sha256_of
from maxim_deploy.graph.files import save_graph
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_settings import EngineSettings, engine_settings_from
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.profiles import profiles_from_specs


def tiny_graph(scale: float = 1.0, stray: str = "") -> ir.Model:
    """Pixels through a float16 convolution and back; `stray` is one more node text on `low`."""
    weights = np.random.default_rng(5).standard_normal((3, 3, 3, 3)).astype(np.float32) * scale / 9
    listed = ", ".join(map(str, weights.ravel()))
    low = "moved" if stray else "low"
    return _named(f"""<ir_version: 10, opset_import: ["": 20]>
        network (uint8[n,h,w,3] image) => (uint8[n,h,w,3] restored)
        <float[3,3,3,3] wide = {{ {listed} }}> {{
            [scale/levels] levels = Cast<to = 1>(image)
            [stages/0/Cast_0] low = Cast<to = 10>(levels)
            {stray}
            [stages/0/weights] kernel = Cast<to = 10>(wide)
            [stages/0/Transpose_0] planes = Transpose<perm = [0, 3, 1, 2]>({low})
            [stages/0/Conv_0] features = Conv<pads = [1, 1, 1, 1]>(planes, kernel)
            [stages/0/Transpose_1] pixels = Transpose<perm = [0, 2, 3, 1]>(features)
            [quantise/Cast_0] again = Cast<to = 1>(pixels)
            [quantise/round] rounded = Round(again)
            [quantise/pixels] restored = Cast<to = 2>(rounded)
        }}""")


def _named(text: str) -> ir.Model:
    """A model from text whose node names, unlike those of ONNX's own syntax, may have slashes."""
    model = ir.from_onnx_text(
        text.replace("[stages/0/", "[stages_0_")
        .replace("[scale/", "[scale_")
        .replace("[quantise/", "[quantise_")
    )
    for node in model.graph:
        for prefix in ("stages_0_", "scale_", "quantise_"):
            if node.name and node.name.startswith(prefix):
                node.name = prefix.replace("_", "/") + node.name.removeprefix(prefix)
    return model


def write_bundle(folder: Path, graph: ir.Model, islands: list[str] | None = None) -> Path:
    """A bundle of one fp16 image graph."""
    folder.mkdir()
    save_graph(graph, folder / "fp16.image.onnx", "fp16.weights", {})
    decision = {"pattern": "x", "type": "float32", "nodes": dict.fromkeys(islands or [])}
    (folder / "fp16.table.json").write_text(json.dumps({"decisions": [decision]}))
    write_manifest(
        folder, GraphEntry("fp16.image.onnx", "fp16", "image", "fp16.weights", 20, 10), settings={}
    )
    return folder


def settings(*profiles: str, **options: object) -> EngineSettings:
    return engine_settings_from(
        {"library": "tensorrt-rtx", "profiles": profiles or ("64x64:96x128:256x256",), **options}
    )


CHOSEN = {"cuda_graphs": "whole-graph", "specialization": "lazy", "runtime_cache": True}


def entry_of(bundle: Bundle, library: str = "tensorrt", **changes: object) -> EngineEntry:
    path = bundle.path / "engines" / "x.engine"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"plan")
    files = bundle.manifest.files
    made_of = {name: files[file]["sha256"] for name, file in
               (("graph", "fp16.image.onnx"), ("weights", "fp16.weights"))}  # fmt: skip
    profiles = profiles_from_specs(["64x64:96x128:256x256", "96x128"], "image")
    entry = EngineEntry(
        "engines/x.engine", "a" * 64, {**made_of, "version_compatible": False}, library, "10.14.1",
        "fp16", "image", profiles, ("8.9",), CHOSEN, False, sha256_of(path), 4, 3, {}, 1, 1,
    )  # fmt: skip
    return replace(entry, **changes)
