"""VapourSynth with vs-mlrt: a graph file per precision, and a script that restores a video.

vs-mlrt loads a graph from its bytes, so the weights are embedded. It fixes the input to 1, 3 and
the size of the clip, and queries the runtime for the output's size. Its wrapper of `trtexec`
expects the input name `input`. Half precision uses clips of the format RGBH.
"""

from __future__ import annotations

from pathlib import Path

from maxim_deploy._files import write_text
from maxim_deploy.hosts.card import write_readme
from maxim_deploy.hosts.order import Order
from maxim_deploy.hosts.planar import write_planar
from maxim_deploy.spec.precision import FULL

SCRIPT = """\
# Restores a video with {name}, by vs-mlrt (https://github.com/AmusementClub/vs-mlrt).
#
#     vspipe -a source=input.mkv -a backend=ort-cpu restore.vpy -c y4m - | ffmpeg -i - output.mkv
#
# backend: ort-cpu, ort-cuda, trt or rtx. precision: {precisions}. TensorRT builds an engine for the
# size of the clip first, which takes minutes, and keeps it beside the graph.
from pathlib import Path

import vapoursynth as vs
from vsmlrt import Backend, inference

source = globals().get("source", "input.mkv")
backend = globals().get("backend", "ort-cpu")
precision = globals().get("precision", "{precision}")

# An engine keeps the types of the graph: those decide what is computed in lower precision.
BACKENDS = {{
    "ort-cpu": lambda: Backend.ORT_CPU(),
    "ort-cuda": lambda: Backend.ORT_CUDA(),
    "trt": lambda: Backend.TRT(tf32=False, custom_args=["--stronglyTyped"]),
    "rtx": lambda: Backend.TRT_RTX(),
}}

clip = vs.core.bs.VideoSource(source)
# RGB of the same size, in [0, 1]. Other videos than HD may need another matrix_in_s.
clip = vs.core.resize.Bicubic(clip, format=vs.{format}, matrix_in_s="709")
clip = inference(
    [clip],
    network_path=str(Path(__file__).with_name(f"{name}.{{precision}}.onnx")),
    overlap=(0, 0),
    tilesize=(clip.width, clip.height),  # whole frames: the network looks at all of one
    backend=BACKENDS[backend](),
)
clip = vs.core.resize.Bicubic(clip, format=vs.YUV420P10, matrix_s="709")
clip.set_output()
"""

USE = """\
| file | what it is |
|---|---|
| `{name}.PRECISION.onnx` | `input` {type} `[N, 3, H, W]` RGB in [0, 1] to `output`, any size |
| `restore.vpy` | a script that restores a video with vs-mlrt |

Install VapourSynth, [vs-mlrt](https://github.com/AmusementClub/vs-mlrt) with its `vsmlrt.py`, and
[BestSource](https://github.com/vapoursynth/bestsource). Then run:

    vspipe -a source=input.mkv -a backend=ort-cpu restore.vpy -c y4m - | ffmpeg -i - output.mkv

`backend` is `ort-cpu`, `ort-cuda`, `trt` (TensorRT) or `rtx` (TensorRT for RTX). `precision` is one
of {precisions}. Do not use vs-mlrt's own `fp16=True`: it casts what must stay float32.
Frames run whole. If memory is short, pass smaller tiles (`tilesize`) with an overlap of 64 or more.
"""


def write(order: Order, folder: Path) -> None:
    """Write the graphs, the script and a README."""
    name, half = order.model.name, order.wishes.io_type != FULL
    for precision in order.precisions:
        write_planar(order, precision, folder / f"{name}.{precision}.onnx")
    words = {"name": name, "precisions": ", ".join(order.precisions)}
    script = SCRIPT.format(
        **words, precision=order.precisions[0], format="RGBH" if half else "RGBS"
    )
    write_text(folder / "restore.vpy", script)
    use = USE.format(**words, type="float16" if half else "float32")
    write_readme(order, folder, "Restoration of videos in VapourSynth, with vs-mlrt.", use)
