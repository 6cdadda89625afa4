"""The names for `load`, for editors and type checkers. A test compares them with the tables.

Backends of other packages have further names, so the type is `BackendName | str`.
"""

from __future__ import annotations

from typing import Literal

BackendName = Literal[
    "auto", "tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "openvino", "onnxruntime", "torch"
]

PrecisionName = Literal["auto", "fp32", "fp16", "bf16"]
