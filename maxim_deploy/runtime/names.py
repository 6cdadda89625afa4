"""The names that `load` takes, for editors and type checkers; a test compares them with the tables.

Backends of other distributions have names of their own, so any text is a `BackendName | str`.
"""

from __future__ import annotations

from typing import Literal

BackendName = Literal[
    "auto", "tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "openvino", "onnxruntime", "torch"
]

PrecisionName = Literal["auto", "fp32", "fp16", "bf16"]
