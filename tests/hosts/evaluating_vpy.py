"""Evaluates a script of VapourSynth: run by an interpreter that has VapourSynth, and only that.

    python evaluating_vpy.py SCRIPT FOLDER [NAME=VALUE]...

Sets the names as `vspipe -a` does. Writes the planes of all frames into the folder: `clip` (what
the network gets), `restored` (what it makes) and `output` (what the script hands on). Prints the
formats, and the calls of a stand-in for vsmlrt, as JSON.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import vapoursynth as vs


def planes(node: vs.VideoNode) -> bytes:
    """All planes of all frames, without the padding of rows."""
    return b"".join(
        memoryview(frame[plane]).tobytes()
        for frame in node.frames()
        for plane in range(frame.format.num_planes)
    )


def main(script: str, folder: str, *given: str) -> None:
    names = runpy.run_path(script, dict(pair.split("=", 1) for pair in given))
    nodes = {name: names[name] for name in ("clip", "restored")} | {"output": vs.get_output(0)[0]}
    for name, node in nodes.items():
        (Path(folder) / name).write_bytes(planes(node))
    formats = {name: node.format.name for name, node in nodes.items()}
    calls = getattr(sys.modules.get("vsmlrt"), "calls", [])
    sys.stdout.write(json.dumps({"formats": formats, "vsmlrt": calls}))


if __name__ == "__main__":
    main(*sys.argv[1:])
