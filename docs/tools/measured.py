"""Tables of what was measured, from the committed records alone."""

from __future__ import annotations

import re
from functools import cache
from math import prod
from pathlib import Path

from tables import table

from maxim_deploy.benchmarks.records import Record, read_records
from maxim_deploy.benchmarks.timing import ratio
from maxim_deploy.checkpoints.layout import parameter_shapes
from maxim_deploy.machine.facts import machine_of
from maxim_deploy.spec.architecture import VARIANTS
from maxim_deploy.spec.gpus import KNOWN_GPUS, bound_ms
from maxim_deploy.spec.models import DEMO, PUBLISHED

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results"
CPU = RESULTS / "cpu-zen5.jsonl"
"""The record that the documentation quotes. Name a newer one here and generate again."""

SIZE = (512, 512)
PIXELS = prod(SIZE)
FRAME = 1088 * 1920


@cache
def records() -> tuple[Record, ...]:
    """Those of `CPU`."""
    return tuple(read_records(CPU))


def record(model: str, subject: str = "onnxruntime") -> Record:
    """The one of a variant at `SIZE` in float32."""
    (found,) = (
        one
        for one in records()
        if one.model == f"{model} random"
        and (one.subject, one.precision, tuple(one.size)) == (subject, "fp32", SIZE)
    )
    return found


def p50_ms(one: Record) -> float:
    """The median of the network's time."""
    return float(one.timings["network"]["wall"]["p50_ms"])


def seconds_per_megapixel(model: str) -> float:
    """Of a variant."""
    return p50_ms(record(model)) / 1e3 / (PIXELS / 1e6)


def machine() -> str:
    """Where the record comes from, in words."""
    one = records()[0]
    library = one.environment["libraries"]["onnxruntime"]
    return (
        f"{machine_of(one.environment)}, ONNX Runtime {library}, {one.created[:10]}, `{CPU.name}`"
    )


def speed_over(model: str, other: str) -> float:
    """How many times as fast the deployment graph is: the median of the ratios of the rounds."""
    own, theirs = record(model), record(model, other)
    return ratio(theirs.medians_ms("network"), own.medians_ms("network")).median


def parameters(model: str) -> int:
    """How many weights a variant has."""
    return sum(prod(shape) for shape in parameter_shapes(VARIANTS[model]).values())


@cache
def engine_rows() -> dict[str, tuple[int, int, float]]:
    """By form: layers, bytes per pixel and GB of activations, from the table of `--rewrites`."""
    section = (BENCHMARKS / "README.md").read_text("utf-8").partition("## Rewrites")[2]
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (\d+) \| [\d.]+ % \| ([\d.]+) GB", section, re.M)
    return {name: (int(layers), int(moved), float(gb)) for name, layers, moved, gb in rows}


@cache
def tile_rows() -> list[tuple[int, int, list[tuple[float, float]]]]:
    """(tile, overlap, (step at the border, step around it) of each photograph)."""
    section = (BENCHMARKS / "README.md").read_text("utf-8").partition("## Tiles")[2]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| .*? \| .*? \| (.*?) \| .* \|$", section, re.M)
    return [
        (int(tile), int(overlap), [_pair(one) for one in steps.split(", ") if one != "-"])
        for tile, overlap, steps in rows
    ]


def _pair(text: str) -> tuple[float, float]:
    at_border, around = text.split(" / ")
    return float(at_border), float(around)


def proof() -> str:
    """The table of proof in the README: S-2."""
    own, torch, literal = (record("S-2", name) for name in ("onnxruntime", "torch", "literal"))
    peak = [f"{one.memory['peak_bytes'] / 1e6:.0f} MB" for one in (own, torch, literal)]
    layers, moved, _ = engine_rows()["gpu"]
    before_layers, before, _ = engine_rows()["cpu"]
    rows = [
        ("largest error, values in 0 to 1", f"{own.agreement['max_error']:.1e}", "reference", ""),
        (
            "time for 512x512, CPU",
            f"{p50_ms(own) / 1e3:.1f} s",
            f"{p50_ms(torch) / 1e3:.1f} s ({speed_over('S-2', 'torch'):.1f}x)",
            f"{p50_ms(literal) / 1e3:.1f} s ({speed_over('S-2', 'literal'):.1f}x)",
        ),
        ("peak memory for 512x512, CPU", *peak),
        (
            "an fp16 engine moves, per pixel",
            f"{moved / 1e3:.0f} kB in {layers} layers",
            "",
            f"{before / 1e3:.0f} kB in {before_layers} layers (CPU form)",
        ),
    ]
    heads = ("MAXIM S-2", "maxim-deploy", "PyTorch eager", "plain export")
    engine = "Engine: 1088x1920, as the builder of TensorRT for RTX 1.7.1 lists it."
    return f"{table(heads, rows)}\n\nMeasured on {machine()}. {engine}"


def models() -> str:
    """All models, with what they take; a name begins with the task."""
    rows = [
        (f"`{one.name}`", one.dataset, one.variant, f"{one.psnr:.2f}", f"{one.ssim:.3f}",
         *_of_variant(one.variant))
        for one in PUBLISHED.values()
    ]  # fmt: skip
    demo = (f"`{DEMO}`", "synthetic", "small", "", "", "in the package", "")
    heads = ("name", "data set", "size", "PSNR, dB", "SSIM", "weights", "s per megapixel")
    return f"{table(heads, [*rows, demo], 'lllrrrr')}\n\nTimes: {machine()}."


def models_in_short() -> str:
    """The models for the README."""
    rows = [
        (f"`{one.name}`", one.task, one.variant, f"{one.psnr:.2f}", *_of_variant(one.variant))
        for one in PUBLISHED.values()
    ]
    demo = (f"`{DEMO}`", "denoising", "small", "", "in the package", "")
    heads = ("name", "task", "size", "published dB", "weights", "s per megapixel")
    return table(heads, [*rows, demo], "lllrrr")


def _of_variant(variant: str) -> tuple[str, str]:
    megabytes = parameters(variant) * 4 / 1e6
    return f"{megabytes:.0f} MB", f"{seconds_per_megapixel(variant):.0f}"


def speed() -> str:
    """Seconds for common sizes of pictures."""
    megapixels = (1, 2, 12, 24)
    rows = [
        (model, *(_time(seconds_per_megapixel(model) * count) for count in megapixels))
        for model in ("S-1", "S-2", "S-3")
    ]
    table_of_sizes = table(
        ("size", *(f"{count} megapixels" for count in megapixels)), rows, "lrrrr"
    )
    return f"{table_of_sizes}\n\nMachine: {machine()}."


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def memory() -> str:
    """Memory of runs per pixel."""
    rows = []
    for model in ("S-1", "S-2", "S-3"):
        taken = record(model).memory["bytes_per_pixel"]
        rows.append(
            (model, f"{taken / 1e3:.1f} kB", f"{taken / 1e3:.1f} GB", f"{taken * 12 / 1e3:.0f} GB")
        )
    heads = ("size", "per pixel", "1 megapixel", "12 megapixels, whole")
    return f"{table(heads, rows, 'lrrr')}\n\nIn float32 at 512x512 on {machine()}."


def gpus() -> str:
    """Known GPUs with the least time of a frame."""
    moved = engine_rows()["gpu"][1] * FRAME
    rows = [
        (one.name, one.compute_capability, f"{one.gbps:g}", f"{bound_ms(moved, one.gbps):.0f} ms")
        for one in KNOWN_GPUS
    ]
    heads = ("GPU", "compute capability", "GB per second", "1088x1920, at least")
    return table(heads, rows, "lrrr")
