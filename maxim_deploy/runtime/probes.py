"""Try backends with a tiny graph: a successful import proves little.

    python -m maxim_deploy.runtime.probes NAME

tries one of them and prints a line of JSON. `doctor` runs each in its own process, because a
library that does not match its driver may crash the process.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import numpy as np

from maxim_deploy.errors import BackendError
from maxim_deploy.runtime.registry import backend_named
from maxim_deploy.runtime.verdict import PIP_LINE, Verdict


def verdict_on(name: str) -> Verdict:
    """Try a backend in this process.

    Args:
        name: name of a backend.
    """
    verdict = Verdict(name)
    try:
        _try(verdict)
        verdict.works = True
    except Exception as error:  # a broken installation may raise any type
        reason, _, install = str(error).partition(PIP_LINE)
        verdict.reason = reason or type(error).__name__
        verdict.install = install or None
    return verdict


def _try(verdict: Verdict) -> None:
    spec = backend_named(verdict.name)
    if spec.runs == "engines":
        verdict.builds_engines = False
    if spec.probe is None:
        spec.function("opener")
        return
    # Small integers, which TF32 and float16 represent exactly.
    image = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    restored = spec.call("probe", verdict, image)
    if not np.array_equal(restored, image + 2 * np.roll(image, -1, axis=1)):
        raise BackendError("it computes a wrong result for a tiny graph")


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(asdict(verdict_on(sys.argv[1])))}\n")
