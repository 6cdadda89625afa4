"""VapourSynth with vs-mlrt: a graph file per precision, and a script that restores a video.

vs-mlrt loads a graph from its bytes, so the weights are embedded. It fixes the input to 1, 3 and
the size of the clip, and queries the runtime for the output's size. Half precision uses clips of
the format RGBH.

The script calls vs-mlrt's plugin for ONNX Runtime itself: the plugin that PyPI has refuses an
argument that some releases of `vsmlrt.py` pass. TensorRT needs `vsmlrt.py`, which builds engines.
It expects the input name `input`, and TensorRT for RTX takes no clips of half precision there.
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
# backend: {backends}. precision: {precisions}.
# TensorRT needs vsmlrt.py. It builds an engine for the size of the clip first, which takes minutes,
# and keeps it beside the graph.
from pathlib import Path

import vapoursynth as vs

source = globals().get("source", "input.mkv")
backend = globals().get("backend", "ort-cpu")
precision = globals().get("precision", "{precision}")
if backend not in "{backends}".split(", "):
    raise vs.Error(f"backend={{backend}} cannot run this graph: choose one of {backends}")

clip = vs.core.bs.VideoSource(source)
# RGB of the same size, in [0, 1]. VapourSynth takes the matrix that the video names, and this one
# if it names none. RGB must not have one.
matrix = {{}} if clip.format.color_family == vs.RGB else {{"matrix_in_s": "709"}}
clip = vs.core.resize.Bicubic(clip, format=vs.{format}, **matrix)

network = str(Path(__file__).with_name(f"{name}.{{precision}}.onnx"))
# Whole frames: the network looks at all of one.
tiles = {{"overlap": (0, 0), "tilesize": (clip.width, clip.height)}}
if backend.startswith("ort-"):
    provider = backend.removeprefix("ort-").upper()
    restored = vs.core.ort.Model([clip], network, provider=provider, **tiles)
else:
    from vsmlrt import Backend, inference

    # An engine keeps the types of the graph: those decide what is computed in lower precision.
    engines = {{
{engines}
    }}
    restored = inference([clip], network, backend=engines[backend](), **tiles)

# One colour sample for two by two pixels, which needs even sides.
odd = restored.width % 2 or restored.height % 2
output = vs.YUV444P10 if odd else vs.YUV420P10
vs.core.resize.Bicubic(restored, format=output, matrix_s="709").set_output()
"""

ENGINES = {
    "trt": 'Backend.TRT(tf32=False, custom_args=["--stronglyTyped"])',
    "rtx": "Backend.TRT_RTX()",
}
"""vs-mlrt's settings of each backend that builds an engine, for graphs that take float32."""

HALF_ENGINES = {
    "trt": 'Backend.TRT(tf32=False, output_format=1, custom_args=["--stronglyTyped"])',
}
"""The same for graphs that take float16: vs-mlrt's default asks for an output of float32."""

PACKAGES = "vapoursynth vapoursynth-bestsource vapoursynth-mlrt-ort"
"""What the script needs with ONNX Runtime. Python 3.12 is the oldest that they support."""

USE = """\
| file | what it is |
|---|---|
| `{name}.PRECISION.onnx` | `input` {type} `[N, 3, H, W]` RGB in [0, 1] to `output`, any size |
| `restore.vpy` | a script that restores a video with vs-mlrt |

Install VapourSynth, [BestSource](https://github.com/vapoursynth/bestsource) and
[vs-mlrt](https://github.com/AmusementClub/vs-mlrt), with Python 3.12 or newer. Then run:

    pip install {packages}
    vapoursynth config
    vspipe -a source=input.mkv -a backend=ort-cpu restore.vpy -c y4m - | ffmpeg -i - output.mkv

`backend` is one of {backends}. `ort-cuda` needs `vapoursynth-mlrt-ort[cuda]`.
TensorRT needs `vsmlrt.py`, its plugins and programs, all from one release of vs-mlrt.
`precision` is one of {precisions}.
Do not use vs-mlrt's own `fp16=True`: it casts what must stay float32.
Frames run whole. If memory is short, pass smaller tiles (`tilesize`) with an overlap of 64 or more.
"""


def write(order: Order, folder: Path) -> None:
    """Write the graphs, the script and a README."""
    name, half = order.model.name, order.wishes.io_type != FULL
    for precision in order.precisions:
        write_planar(order, precision, folder / f"{name}.{precision}.onnx")
    engines = HALF_ENGINES if half else ENGINES
    words = {
        "name": name,
        "precisions": ", ".join(order.precisions),
        "backends": ", ".join(["ort-cpu", "ort-cuda", *engines]),
    }
    script = SCRIPT.format(
        **words,
        precision=order.precisions[0],
        format="RGBH" if half else "RGBS",
        engines="\n".join(f'        "{key}": lambda: {made},' for key, made in engines.items()),
    )
    write_text(folder / "restore.vpy", script)
    use = USE.format(**words, packages=PACKAGES, type="float16" if half else "float32")
    write_readme(order, folder, "Restoration of videos in VapourSynth, with vs-mlrt.", use)
