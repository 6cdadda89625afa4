"""What `vsmlrt.py` offers a script that lets TensorRT restore, computed by ONNX Runtime instead.

The script of vs-mlrt is on no public index of packages. Its names, arguments, defaults and refusals
are made again here, as read in release 3.22.37. Nothing is built: the plugin for ONNX Runtime runs
the graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import vapoursynth as vs

calls: list[dict[str, object]] = []
"""The arguments of each call of `inference`, with the backend's settings."""


class Backend:
    @dataclass
    class TRT:
        tf32: bool = False
        output_format: int = 0  # 0: float32, 1: float16
        custom_args: list[str] = field(default_factory=list)

    @dataclass
    class TRT_RTX:  # noqa: N801
        custom_args: list[str] = field(default_factory=list)


def inference(
    clips: list[vs.VideoNode],
    network_path: str,
    overlap: tuple[int, int] = (0, 0),
    tilesize: tuple[int, int] | None = None,
    backend: Backend.TRT | Backend.TRT_RTX | None = None,
) -> vs.VideoNode:
    (clip,) = clips
    half = clip.format.bits_per_sample == 16
    if isinstance(backend, Backend.TRT_RTX):
        if half:
            raise ValueError('tensorrt_rtx: "fp16" must be True.')
    # trtexec gives the engine's output this type, which a strongly typed network must have.
    elif isinstance(backend, Backend.TRT) and backend.output_format != int(half):
        raise RuntimeError("trtexec execution fails")
    settings = {"backend": type(backend).__name__, **asdict(backend)}
    calls.append({"tilesize": tilesize, "overlap": overlap, **settings})
    return vs.core.ort.Model(clips, network_path, overlap=overlap, tilesize=tilesize)
