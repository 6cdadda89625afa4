"""Every reader of files that come from elsewhere, in one table, each with an honest file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import bundles
import clips
import numpy as np
from benchmarks.samples import BOUND, record
from checkpoints.samples import TINY, as_state_dict
from fuzzing.mutations import of_bytes, of_json, of_toml, of_zip, one_of
from fuzzing.runs import Reader
from PIL import Image
from spec.samples import asked, entry

from maxim_deploy import _records
from maxim_deploy._reading import read_bounded
from maxim_deploy._records import append_lines
from maxim_deploy.accept.record import Outcome, Record, read_record
from maxim_deploy.benchmarks.records import line_of, read_records
from maxim_deploy.benchmarks.regression import changes, same_machine
from maxim_deploy.benchmarks.report import answers, environments, overview, panels, sections
from maxim_deploy.benchmarks.suite import read_suite
from maxim_deploy.benchmarks.tables import table_of
from maxim_deploy.checkpoints import Checkpoint, parameter_shapes, read_checkpoint
from maxim_deploy.checkpoints.safetensors_file import write_safetensors
from maxim_deploy.cli._bench_report import parity_lines
from maxim_deploy.cli._scores import ScoreRecord
from maxim_deploy.engines.inspection import inspect_bundle, inspection_text
from maxim_deploy.engines.layers import Layer, Tensor, layers_beside, layers_to_json
from maxim_deploy.engines.library_file import LibraryFile
from maxim_deploy.engines.network import islands_of
from maxim_deploy.graph.precision.lowering import read_precision_table
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.imaging.files import read_image, read_image_size
from maxim_deploy.imaging.video import VideoReader
from maxim_deploy.jobs.record import NAME, EarlierResults, Fingerprint, ResumeRecord
from maxim_deploy.parity.stored import StoredOutputs
from maxim_deploy.parity.trials import Trial, _line, _trial
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.engine_settings import engine_settings_from, read_engine_recipe
from maxim_deploy.spec.export_record import EngineRecord, ExportRecord, GraphRecord
from maxim_deploy.spec.integrity import weights_in
from maxim_deploy.spec.manifest import GraphEntry, Manifest
from maxim_deploy.spec.recipes import read_export_recipe


def _weights() -> dict[str, Any]:
    chance = np.random.default_rng(0)
    shapes = parameter_shapes(TINY).items()
    return {path: chance.standard_normal(shape, dtype=np.float32) for path, shape in shapes}


def _npz(_: Path) -> bytes:
    target = io.BytesIO()
    np.savez(target, **{f"opt/target/{path}": array for path, array in _weights().items()})
    return target.getvalue()


def _safetensors(folder: Path) -> bytes:
    path = folder / "honest"
    write_safetensors(path, Checkpoint(_weights(), TINY, Descriptor("tiny")))
    return path.read_bytes()


def _pytorch(folder: Path, *, is_zip: bool) -> bytes:
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in as_state_dict(_weights()).items()}
    path = folder / "honest"
    torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=is_zip)
    return path.read_bytes()


def _pixels(*shape: int, dtype: Any = np.uint8) -> Any:
    chance = np.random.default_rng(0)
    return chance.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def _image(_: Path, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(_pixels(40, 60, 3)).save(target, kind, **options)
    return target.getvalue()


def _deep(folder: Path, suffix: str, **options: Any) -> bytes:
    import imagecodecs
    import tifffile

    pixels = _pixels(40, 60, 3, dtype=np.uint16)
    if suffix == ".png":
        return bytes(imagecodecs.png_encode(pixels))
    tifffile.imwrite(folder / "honest", pixels, photometric="rgb", metadata=None, **options)
    return (folder / "honest").read_bytes()


def _read_image(path: Path) -> None:
    read_image_size(path)
    read_image(path)


def _video(folder: Path, suffix: str, **options: Any) -> bytes:
    path = folder / f"honest{suffix}"
    return clips.clip(path, range(6), time_base=Fraction(1, 25), **options).read_bytes()


def _read_video(path: Path) -> None:
    reader = VideoReader(path)
    try:
        for _ in reader:
            pass
        _ = reader.rest, reader.damage, reader.expected_frames, reader.rate
    finally:
        reader.close()


def _bundle(folder: Path) -> Path:
    """A bundle with all that its two records can have."""
    bundles.write_graph(folder / "g.onnx", "g.weights")
    (folder / "g.weights").write_bytes(bytes(4))
    measured = GraphRecord([{"shape": [1], "max_error": 1e-6}], [[1, 2]], 2)
    graph = GraphEntry("g.onnx", "fp16", "image", "g.weights", 20, 1, measured=measured)
    bundles.write_manifest(folder, graph, settings={"precision": ["fp16"], "io": ["image"]})
    built = entry(
        "engines/x.engine", "photo", "64x64", library="tensorrt", precision="fp16", io="image",
        made_of={}, memory={"activation_bytes": 7}, runtime=asked().for_runtime(),
        built=EngineRecord(build_seconds=1.5),
    )  # fmt: skip
    header = ExportRecord("", "2026-01-01T00:00:00+00:00", "maxim-export", {"numpy": "2"})
    manifest = Manifest(
        **{**vars(Bundle.open(folder).manifest), "engines": [built], "export": header}
    )
    Bundle(folder, manifest).write()
    return folder


def _read_bundle(path: Path, name: str) -> None:
    """The mutated file takes its place in a bundle."""
    (path.parent / name).write_bytes(path.read_bytes())
    bundle = Bundle.open(path.parent)
    bundle.manifest.to_json()
    inspection_text(inspect_bundle(path.parent))
    for graph in bundle.manifest.graphs:
        _ = graph.measured.run_memory


def _record_lines(_: Path) -> bytes:
    cost = {
        "operations_per_pixel": 1.0, "bytes_per_pixel": 1.0, "fused_bytes_per_pixel": 1.0,
        "gflops": 1.0, "gbps": 1.0, "bound_ms": 1.0, "fused_bound_ms": 1.0, "share": 0.5,
        "fused_share": 0.5,
    }  # fmt: skip
    memory = {"size": [256, 256], "baseline_bytes": 1, "peak_bytes": 2, "bytes_per_pixel": 5.0}
    both = {
        "cost": cost,
        "memory": memory,
        "bound": BOUND,
        "start": {"load_s": 1.0, "first_call_ms": 1.0},
    }
    load = {
        "mode": "closed", "callers": 1, "offered_per_s": None, "images_per_s": 1.0,
        "latency": record().timings["network"]["wall"],
    }  # fmt: skip
    records = [record("torch", **both), record("onnxruntime", **both, load=[load])]
    return "\n".join(map(line_of, records)).encode() + b"\n"


def _read_records(path: Path) -> None:
    """All that a table, a baseline and a page make of records, but for drawing."""
    found, own = read_records(path), record("torch")
    table_of(found)
    listed = panels.panels_of(found)
    for panel in listed:
        answers.answers(panel, ())
        overview.claims(panel)
        list(overview.cards(panel)) if panel.measured else None
        sections._times(panel), sections._memory(panel), sections._cost(panel)
    overview.warnings(listed)
    environments.environments_of(listed, ())
    changes([own], same_machine(found, own.environment))


def _draw_records(path: Path) -> None:
    from maxim_deploy.benchmarks.report.page import page

    page(read_records(path))


_PARITY = {
    "a": "demo:fp32", "b": "demo:fp16", "image": "lynx", "max_error_levels": 0.6, "psnr": 66.5,
    "mean_error_levels": 0.1, "p999_error_levels": 0.2, "ssim": 0.9, "threshold": "fp16",
    "passed": True, "faults": [], "stages": {"a": {}},
}  # fmt: skip


def _read_parity(path: Path) -> None:
    lines = parity_lines(path)
    sections.parity(lines)
    for panel in panels.panels_of([record("onnxruntime", precision="fp16"), record("onnxruntime")]):
        answers.answers(panel, lines)


def _stored(_: Path) -> bytes:
    target = io.BytesIO()
    pictures = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    np.savez_compressed(target, input_u8=_pixels(2, 16, 16, 3), output=pictures, ensemble=pictures)
    return target.getvalue()


def _read_stored(path: Path) -> None:
    stage = StoredOutputs("a", path)
    for sample in stage.samples:
        stage.restore(sample)


_SETTINGS = {"backend": "onnxruntime"}


def _resume(folder: Path) -> bytes:
    for name in ("in.png", "out.png", "out2.png"):
        (folder / name).write_bytes(b"x")
    finished = ResumeRecord(_SETTINGS)
    for out in ("out.png", "out2.png"):
        finished.note(Fingerprint.of(folder / "in.png"), [folder / out])
    return (folder / NAME).read_bytes()


def _read_resume(path: Path) -> None:
    (path.parent / NAME).write_bytes(path.read_bytes())
    ResumeRecord(_SETTINGS).has(path.parent / "in.png", [path.parent / "out.png"])
    _ = path.parent / "out.png" in EarlierResults()


def _scores(folder: Path) -> bytes:
    (folder / "in.png").write_bytes(b"x")
    scores = ScoreRecord(folder / "scores", _SETTINGS)
    before = {"input": vars(Fingerprint.of(folder / "in.png"))}
    scores.note("a", before, {"psnr": 30.0, "ssim": 0.9})
    return (folder / "scores").read_bytes()


def _read_scores(path: Path) -> None:
    ScoreRecord(path, _SETTINGS).score_of("a", {"input": path.parent / "in.png"})


def _trials(folder: Path) -> bytes:
    append_lines(
        folder / "trials", [_line("ab", Trial({"lynx": 50.0})), _line("cd", Trial({"lynx": 1.0}))]
    )
    return (folder / "trials").read_bytes()


def _read_trials(path: Path) -> None:
    for _, trial in _records.read_intact_lines(path, _trial):
        _ = trial.worst, trial.power


def _table(_: Path) -> bytes:
    decision = Decision("stages/0/*", "float32", "why")
    return PrecisionTable("float16", (decision,)).to_json({decision: {"stages/0/a": 1.0}}).encode()


def _read_table(path: Path) -> None:
    table = read_precision_table(path)
    table.to_json()


def _layers(_: Path) -> bytes:
    tensor = Tensor("x", (1, 3, 64, 64), "float16")
    return layers_to_json([Layer("a", "gemm", ("float16",), ("n",), (tensor,), (tensor,))]).encode()


def _read_layers(path: Path) -> None:
    path.with_suffix(".layers.json").write_bytes(path.read_bytes())
    for layer in layers_beside(path):
        _ = [tensor.bytes for tensor in layer.inputs]


def _library(path: Path) -> LibraryFile:
    return LibraryFile(path, "timing cache", "tensorrt 10", "GPU", lambda _: None)


def _cache(folder: Path) -> bytes:
    _library(folder / "honest").write(bytes(100))
    return (folder / "honest").read_bytes()


def _acceptance(_: Path) -> bytes:
    outcomes = [Outcome("load", "demo", "onnxruntime", "passed", None, {"ms": 1.0}, 1.0)]
    return Record("2026-01-01", 1.0, 2.0, {"cpu": "Z80"}, 0, outcomes).to_json().encode()


def _read_acceptance(path: Path) -> None:
    found = read_record(path)
    found.counts(), list(map(str, found.outcomes))


def _graph(folder: Path) -> bytes:
    bundles.write_graph(folder / "honest", "a.weights", inside=True)
    return (folder / "honest").read_bytes()


_SUITE = b"""[quick]
models = ["S-1", "demo-denoise", {features = 8, stages = 1}]
backends = ["onnxruntime"]
precisions = ["fp32", "fp16"]
baselines = ["torch fp16", "literal", "each"]
sizes = ["64x64", "256x256"]
batches = [1, 4]
brackets = ["network"]
threads = 2
rounds = 3
least_s = 0.5
"""
_RECIPE = b"""model = "demo-denoise"
variant = "S-2"
checkpoint = "~/weights.npz"
precision = ["fp32", "fp16"]
io = ["image", "tensor"]
"""
_ENGINE = b"""[engine]
library = "tensorrt"
profiles = ["tile512@1:8:16", "1080p@1:1:4"]
hardware_compatibility = "ampere-plus"
optimization_level = 4
"""


def _read_engine(path: Path) -> None:
    engine_settings_from(read_engine_recipe(path))


_damaged = one_of(of_json, of_json, of_json, of_bytes)
_toml = one_of(of_toml, of_toml, of_bytes)
_zipped = one_of(of_zip, of_bytes)


def _json(name: str, sample: Any, read: Callable[[Path], object], **options: Any) -> Reader:
    return Reader(name, ".json", sample, read, _damaged, **options)


def _picture(name: str, suffix: str, kind: str, **options: Any) -> Reader:
    return Reader(name, suffix, partial(_image, kind=kind, **options), _read_image, of_bytes)


_ALL = (
    Reader("npz", ".npz", _npz, read_checkpoint, _zipped, is_slow=True),
    Reader("safetensors", ".safetensors", _safetensors, read_checkpoint, of_bytes),
    Reader(
        "pytorch", ".pt", partial(_pytorch, is_zip=True), read_checkpoint, _zipped, is_slow=True
    ),
    Reader(
        "legacy", ".pth", partial(_pytorch, is_zip=False), read_checkpoint, of_bytes, is_slow=True
    ),
    _picture("png", ".png", "PNG"),
    _picture("jpeg", ".jpg", "JPEG", quality=80),
    _picture("webp", ".webp", "WEBP"),
    _picture("tiff", ".tif", "TIFF"),
    _picture("lzw", ".tif", "TIFF", compression="tiff_lzw"),
    _picture("gif", ".gif", "GIF"),
    _picture("bmp", ".bmp", "BMP"),
    _picture("ppm", ".ppm", "PPM"),
    _picture("avif", ".avif", "AVIF"),
    Reader("deep png", ".png", partial(_deep, suffix=".png"), _read_image, of_bytes),
    Reader("deep tiff", ".tif", partial(_deep, suffix=".tif"), _read_image, of_bytes),
    Reader(
        "tiles",
        ".tif",
        partial(_deep, suffix=".tif", tile=(16, 16), compression="zlib"),
        _read_image,
        of_bytes,
    ),
    Reader("mp4", ".mp4", partial(_video, suffix=".mp4"), _read_video, of_bytes, is_slow=True),
    Reader("mkv", ".mkv", partial(_video, suffix=".mkv"), _read_video, of_bytes, is_slow=True),
    Reader(
        "avi",
        ".avi",
        partial(_video, suffix=".avi", codec="mpeg4", sound=False),
        _read_video,
        of_bytes,
        is_slow=True,
    ),
    Reader("ts", ".ts", partial(_video, suffix=".ts"), _read_video, of_bytes, is_slow=True),
    _json(
        "manifest",
        lambda folder: (_bundle(folder) / "manifest.json").read_bytes(),
        partial(_read_bundle, name="manifest.json"),
    ),
    _json(
        "export record",
        lambda folder: (_bundle(folder) / "export.json").read_bytes(),
        partial(_read_bundle, name="export.json"),
    ),
    _json("table", _table, _read_table),
    _json("islands", _table, lambda path: islands_of(read_bounded(path))),
    Reader("recipe", ".toml", lambda _: _RECIPE, read_export_recipe, _toml),
    Reader("engine recipe", ".toml", lambda _: _ENGINE, _read_engine, _toml),
    # It asks PyTorch for the names of rewrites.
    Reader("suite", ".toml", lambda _: _SUITE, read_suite, _toml, is_slow=True),
    _json("records", _record_lines, _read_records),
    _json("report", _record_lines, _draw_records, is_slow=True),
    _json("parity", lambda _: json.dumps(_PARITY).encode() + b"\n", _read_parity),
    _json("acceptance", _acceptance, _read_acceptance),
    Reader("stored", ".npz", _stored, _read_stored, _zipped),
    _json("resume", _resume, _read_resume, never_raises=True),
    _json("scores", _scores, _read_scores, never_raises=True),
    _json("trials", _trials, _read_trials, never_raises=True),
    _json("layers", _layers, _read_layers, never_raises=True),
    Reader(
        "cache", ".cache", _cache, lambda path: _library(path).read(), of_bytes, never_raises=True
    ),
    Reader(
        "graph", ".onnx", _graph, lambda path: weights_in(path, "a.weights", "export it"), of_bytes
    ),
)

READERS = {reader.name: reader for reader in _ALL}
