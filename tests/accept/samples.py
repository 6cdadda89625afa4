"""Records of two machines."""

from __future__ import annotations

from typing import Any

from maxim_deploy.accept.record import FAILED, NOT_RUN, PASSED, Outcome, Record


def record_of(gpu: str | None, *outcomes: Outcome) -> Record:
    environment: dict[str, Any] = {
        "cpu": "AMD EPYC",
        "cpu_id": "AuthenticAMD 26 2 1",
        "cpus": 2,
        "os": "Linux 6 x86_64",
        "python": "3.11.7",
        "libraries": {"maxim-deploy": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        "gpu": gpu and {"name": gpu},
    }
    created = "2026-01-02T03:04:05+00:00"
    return Record(created, 61.2, 1200.0, environment, int(gpu is not None), list(outcomes))


ON_CPU = record_of(
    None,
    Outcome("export", "demo-denoise", "", PASSED),
    Outcome("load", "demo-denoise", "onnxruntime", PASSED),
    Outcome("load", "demo-denoise", "tensorrt", NOT_RUN, "no GPU"),
    Outcome("lanes", "demo-denoise", "onnxruntime", PASSED),
)
ON_GPU = record_of(
    "NVIDIA L4",
    Outcome("load", "demo-denoise", "onnxruntime", PASSED),
    Outcome("load", "demo-denoise", "tensorrt", PASSED),
    Outcome("lanes", "demo-denoise", "onnxruntime", PASSED),
    Outcome("lanes", "S-2 random", "onnxruntime", FAILED, "differ"),
)
