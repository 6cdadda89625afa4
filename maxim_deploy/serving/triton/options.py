"""What a model in a repository is to be: the options of `maxim-deploy triton`, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from maxim_deploy.errors import UsageError
from maxim_deploy.runtime.names import PrecisionName

TritonBackendName = Literal["python", "onnxruntime", "tensorrt"]

Sizes = tuple[tuple[int, int], ...]
"""(height, width) of pictures."""

MAX_BATCH = 8
"""Requests in one execution at most, unless told otherwise. On a GPU a request
that comes later waits for the last of them, so a larger number helps many small pictures and delays
large ones."""

QUEUE = 0
"""Requests that wait at most, unless told otherwise: any number. With a limit Triton forms no batch
during an execution, and Triton 24.10 then rests at times for half a second between two of them."""

SIZES: Sizes = ((256, 256),)
"""Heights and widths to warm up with, unless told otherwise. An engine is warmed up with the sizes
that it is tuned for."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ModelOptions:
    """How a bundle is to be served.

    Attributes:
        backend: of Triton: "python" for our runtime, "onnxruntime" or "tensorrt" for theirs.
        name: of the model; None for the bundle's.
        precision: "auto", or the one to run.
        instances: on the CPU, or on each GPU; None to choose.
        threads: CPU threads of each instance; None for a share of the processors.
        max_memory: bytes that the process of an instance may take; None for a share of the memory.
        gpus: indices; empty for the CPU, and with "tensorrt" for all GPUs.
        max_batch: requests in one execution at most; None for what suits the model.
        queue: requests that wait at most, those beyond are refused at once; 0 for any number.
        delay_us: microseconds that a request waits for others to run with.
        sizes: (height, width) of pictures to warm up with; None for what suits the model.
        environment: of Python, for the server: a folder with a virtual environment, or an archive.

    Raises:
        UsageError: two options do not go together, or the server would not take the name.
    """

    backend: TritonBackendName = "python"
    name: str | None = None
    precision: PrecisionName = "auto"
    instances: int | None = None
    threads: int | None = None
    max_memory: int | None = None
    gpus: tuple[int, ...] = ()
    max_batch: int | None = None
    queue: int = QUEUE
    delay_us: int = 0
    sizes: Sizes | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise UsageError(
                f"model name {self.name!r} | expected letters, digits, '.', '_' and '-', a letter "
                "or digit first | choose another --name"
            )
        for option, value in self._only_in_python().items():
            if value is not None and self.backend != "python":
                raise UsageError(
                    f"--{option} is for --backend python; Triton's {self.backend} backend cannot "
                    f"do that | omit --{option}, or take --backend python"
                )
        if self.threads is not None and self.is_on_gpu:
            raise UsageError("--threads is for instances on the CPU; omit --gpus or --threads")

    @property
    def is_on_gpu(self) -> bool:
        """Whether instances are on GPUs."""
        return bool(self.gpus) or self.backend == "tensorrt"

    def _only_in_python(self) -> dict[str, object]:
        return {"max-memory": self.max_memory, "environment": self.environment}
