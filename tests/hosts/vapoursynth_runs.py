"""Running VapourSynth: its interpreter, scripts, and its command."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maxim_deploy.hosts.vapoursynth import PACKAGES

VARIABLE = "MAXIM_DEPLOY_TEST_VAPOURSYNTH_PYTHON"
FOLDER = "vapoursynth-venv"
COMMAND = f"python3.12 -m venv {FOLDER} && {FOLDER}/bin/pip install {PACKAGES}"
"""The command that brings it, with Python 3.12 or newer."""

HERE = Path(__file__).parent
TYPES = {"RGBS": np.float32, "RGBH": np.float16}


@functools.cache
def interpreter() -> str:
    """An interpreter that has VapourSynth and both plugins; skips the test where there is none."""
    chosen = os.environ.get(VARIABLE)
    names = [f"python3.{minor}" for minor in range(12, 20)]
    venv = HERE.parents[1] / FOLDER / "bin" / "python"
    for python in [chosen] if chosen else [str(venv), *filter(None, map(shutil.which, names))]:
        ask = "import vapoursynth; vapoursynth.core.bs.VideoSource; vapoursynth.core.ort.Model"
        try:
            found = subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=60)
        except OSError:
            continue
        if found.returncode == 0:
            return python
    if chosen:
        pytest.fail(f"${VARIABLE} names {chosen}, which lacks VapourSynth or a plugin")
    pytest.skip(f"no VapourSynth: run `{COMMAND}`, or set ${VARIABLE}")


@dataclass
class Frames:
    """What a script made of a video.

    Attributes:
        clip: the network's input, `[frames, 3, H, W]`.
        restored: the network's output, the same shape and type.
        output: planes of the script's output in one line of bytes.
        formats: VapourSynth's names of the formats of these three.
        vsmlrt: calls of the stand-in for vsmlrt.
    """

    clip: NDArray[Any]
    restored: NDArray[Any]
    output: bytes
    formats: dict[str, str]
    vsmlrt: list[dict[str, Any]]


def environment(home: Path) -> dict[str, str]:
    """The environment, with the user's folders in one of the test, and the stand-in for vsmlrt."""
    folders = {"HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_CACHE_HOME": home / "cache"}
    path = {"PYTHONPATH": str(HERE / "stand_ins"), "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | {name: str(folder) for name, folder in folders.items()} | path


def evaluate(script: Path, source: Path, home: Path, **given: str) -> Frames:
    """Evaluate a script on a video, with more variables for it."""
    width, height = _size(source)
    command = [interpreter(), str(HERE / "evaluating_vpy.py"), str(script), str(home)]
    command += [f"{name}={value}" for name, value in {"source": str(source), **given}.items()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(home))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    clip, restored = (
        np.fromfile(home / name, TYPES[told["formats"][name]]).reshape(-1, 3, height, width)
        for name in ("clip", "restored")
    )
    return Frames(clip, restored, (home / "output").read_bytes(), **told)


def vspipe(script: Path, source: Path, home: Path) -> bytes:
    """What `vspipe`, after `vapoursynth config`, writes as Y4M."""
    tools, env = Path(interpreter()).parent, environment(home)
    subprocess.run([tools / "vapoursynth", "config"], env=env, check=True, capture_output=True)
    command = [tools / "vspipe", "-a", f"source={source}", "-a", "backend=ort-cpu"]
    done = subprocess.run([*command, script, "-c", "y4m", "-"], env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _size(video: Path) -> tuple[int, int]:
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height
