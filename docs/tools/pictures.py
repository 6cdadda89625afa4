"""The pictures of the documentation, from committed records."""

from __future__ import annotations

import json
from collections.abc import Callable

from charts import MARGIN, WIDTH, bars, drawing, words
from code_tables import ACCEPTED
from measured import RESULTS, engine_rows, machine, p50_ms, record, tile_rows

from maxim_deploy.accept.record import read_record
from maxim_deploy.machine.facts import machine_of

PROFILED = ACCEPTED / "cpu2.json"


def pipeline() -> str:
    """From a checkpoint to a picture."""
    boxes = (
        ("checkpoint", "published weights"),
        ("PyTorch", "as published"),
        ("ONNX graph", "exact rewrites"),
        ("mixed precision", "decision table"),
        ("engine", "profiles of sizes"),
        ("picture", "any size"),
    )
    step, across = (WIDTH - 2 * MARGIN + 20) / 3, 3
    body = [words(MARGIN, 28, "Each arrow is compared: the picture must stay the same", "head")]
    for number, (name, about) in enumerate(boxes):
        x, y = MARGIN + number % across * step, 46 + number // across * 80
        middle = x + (step - 20) / 2
        body += [
            f'<rect class="box" x="{x:.1f}" y="{y}" width="{step - 20:.1f}" height="56" rx="6"/>',
            words(middle, y + 25, name, anchor="middle"),
            words(middle, y + 44, about, "quiet", "middle"),
        ]
        if number % across:
            body.append(f'<path class="line" d="M{x - 16:.1f} {y + 28}h12m-4 -4l4 4l-4 4"/>')
        elif number:  # from the end of the row above
            end = WIDTH - MARGIN - (step - 20) / 2
            start = f"M{end:.1f} {y - 24}v12H{middle:.1f}"
            body.append(f'<path class="line" d="{start}v10m-4 -4l4 4l4 -4"/>')
    return drawing("From a checkpoint to a picture", 198, body)


def rewrites() -> str:
    """Bytes that an engine moves, by form."""
    shown = {
        "cpu": "CPU form",
        "gpu without partitioned_norms": "GPU form without partitioned norms",
        "gpu without joined_halves": "GPU form without joined halves",
        "gpu-range": "GPU form for a range of sizes",
        "gpu": "GPU form",
    }
    rows = [
        (said, moved, f"{moved / 1e3:.1f} kB, {layers} layers", name == "gpu")
        for name, said in shown.items()
        for layers, moved, _ in [engine_rows()[name]]
    ]
    note = "S-2, fp16, 1088x1920. As the builder of TensorRT for RTX 1.7.1 lists it."
    return bars("What an engine moves per pixel", note, rows)


def blocks() -> str:
    """Time by block of the network."""
    found = read_record(PROFILED)
    (numbers,) = (
        one.numbers
        for one in found.outcomes
        if (one.model, one.backend, one.step) == ("S-2 random", "onnxruntime", "profile")
    )
    rows = [
        (name, ms, f"{ms:.0f} ms", True) for name, ms in numbers["blocks_ms"].items() if ms >= 1
    ]
    note = f"S-2, float32, ONNX Runtime. {machine_of(found.environment)}, {found.created[:10]}."
    return bars("Where the time goes, by block", note, rows)


def traffic() -> str:
    """Bytes that an engine moves, by block of the network."""
    found = json.loads((RESULTS / "traffic-rtx.json").read_text("utf-8"))
    rows = [
        (name, moved, f"{moved / 1e3:.1f} kB, {part['layers']} layers", True)
        for name, part in found["traffic"]["by_block"].items()
        if (moved := part["bytes_per_pixel"]) >= 100
    ]
    shape = found["traffic"]["shape"]
    size = f"{shape['height']}x{shape['width']}"
    note = f"S-2, {found['precision']}, {size}. As the builder of {found['library']} lists it."
    return bars("What an engine moves per pixel, by block", note, rows)


def speed() -> str:
    """Time of S-2 by what runs it."""
    subjects = {
        "torch": "PyTorch eager",
        "literal": "plain export, ONNX Runtime",
        "torch-compile": "torch.compile",
        "onnxruntime": "maxim-deploy, ONNX Runtime",
    }
    rows = [
        (said, ms := p50_ms(record("S-2", name)), f"{ms / 1e3:.1f} s", name == "onnxruntime")
        for name, said in subjects.items()
    ]
    return bars("Time for 512x512, S-2 in float32", f"{machine()}.", rows)


def seams() -> str:
    """Steps at the borders of tiles, the worst of four photographs."""
    rows = []
    for tile, overlap, steps in tile_rows():
        if tile in (128, 256) and overlap in (0, 64):
            at_border, around = max(steps)
            name = f"tiles of {tile}, overlap {overlap}"
            rows += [
                (f"{name}: border", at_border, f"{at_border:.2f}", True),
                ("around it", around, f"{around:.2f}", False),
            ]
    note = "Mean difference of neighbouring pixels of the error, in levels of 255; demo model."
    return bars("Steps across the border of a tile", note, rows)


PICTURES: dict[str, Callable[[], str]] = {
    "pipeline.svg": pipeline,
    "rewrites.svg": rewrites,
    "blocks.svg": blocks,
    "traffic.svg": traffic,
    "speed.svg": speed,
    "seams.svg": seams,
}
"""By file name."""
