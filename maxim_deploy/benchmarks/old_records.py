"""Records of schema 1, as measured before there were precisions, batches and brackets."""

from __future__ import annotations

from typing import Any

from maxim_deploy.benchmarks.summary import summary, throughput

_SUBJECTS = {"pytorch": "torch", "deployment": "onnxruntime"}


def from_schema_1(old: dict[str, Any]) -> dict[str, Any]:
    """The same in the fields of schema 2: one run per round, of the network in float32.

    Its peak memory, where there is one, is of a fresh process at the size in `memory`.

    Raises:
        KeyError: a field is missing.
    """
    time, (height, width) = old["time"], old["time"]["size"]
    rounds = [[1e3 * seconds] for seconds in time["seconds"]]
    wall = summary([ms for (ms,) in rounds])
    network = {
        "wall": wall,
        "gpu": None,
        "rounds_ms": rounds,
        **throughput(wall["p50_ms"], height, width),
        "warmup_runs": time["warmup"],
        "stable": None,
    }
    same = ("suite", "run", "created", "architecture", "graph", "library", "environment")
    agreement = old["agreement"]
    return {
        **{key: old[key] for key in same},
        "memory": old["memory"] and old["memory"] | {"device_bytes": None},
        "model": f"{old['architecture'].split(' ')[0]} random",
        "subject": _SUBJECTS.get(old["subject"], old["subject"]),
        "runner": _SUBJECTS.get(old["engine"], old["engine"]),
        "precision": "fp32",
        "io": "tensor",
        "device": "cpu",
        "size": [height, width],
        "batch": 1,
        "threads": time["threads"],
        "timings": {"network": network},
        "agreement": {
            "with": _SUBJECTS.get(agreement["with"], agreement["with"]),
            "precision": "fp32",
            "max_error": agreement["max_error"],
            "allowed": 1e-4,
        },
        "noise": {"spread": None, "foreign_cpu": None, "idle_cpu_s": time["idle_cpu_s"]},
    }
