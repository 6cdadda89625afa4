"""The literal network in PyTorch as a backend: `maxim_deploy.load(bundle, backend="torch")`.

It is the reference for all other stages. It reads the bundle's literal weights, not its graphs. It
runs on a GPU if PyTorch can use one, else on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maxim_deploy.checkpoints import read_source
from maxim_deploy.errors import BackendError, OutOfMemoryError, UsageError
from maxim_deploy.machine.processors import threads_to_ask_for
from maxim_deploy.model import module_from_checkpoint
from maxim_deploy.runtime.backend import Backend
from maxim_deploy.runtime.request import Request
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.precision import FULL, LOW, PRECISIONS
from maxim_deploy.spec.profiles import Shape

BYTES_PER_PIXEL = 100
BYTES_PER_FEATURE = 130
"""Memory of a run in float32 per pixel, so much and so much for each feature. From the demo model,
S-1 and S-2; a rough figure, and no promise as that of the other backends is."""


class TorchBackend(Backend):
    """The literal network.

    Args:
        bundle: with its literal weights.
        precision: full, or another on a GPU.
        device: where to run.
        threads: of the CPU for the whole process; None leaves PyTorch's number.

    Raises:
        BundleError: the bundle has no literal weights, or they have changed.
        UsageError: a CPU runs full precision only.
    """

    name = "torch"
    io = "tensor"
    batch_pixels = 2 * 128 * 128
    """As ONNX Runtime's on a CPU."""

    def __init__(
        self, bundle: Bundle, precision: str, device: torch.device, threads: int | None = None
    ) -> None:
        if precision != FULL and device.type == "cpu":
            others = ", ".join(LOW)
            raise UsageError(
                f"the reference runs {FULL}, and {others} on a GPU; not {precision} here"
            )
        # PyTorch counts the processors that it sees, not a container's quota.
        if asked := threads_to_ask_for(threads):
            torch.set_num_threads(asked)
        self._type: torch.dtype = getattr(torch, PRECISIONS[precision].type)
        module: Any = module_from_checkpoint(read_source(bundle))
        self._module = module.to(device, self._type)
        self._features = bundle.manifest.architecture.features
        self._device, self.precision = device, precision
        self.uses_host_memory = device.type == "cpu"
        self.device = "cpu" if self.uses_host_memory else f"{device} {_gpu_name(device)}"
        self.warmup_runs = 1 if self.uses_host_memory else 2
        self.library = f"torch {torch.__version__}"

    def run(self, image: NDArray[Any]) -> NDArray[Any]:
        """Restore `[N, 3, H, W]` float32 in [0, 1]. Returns the same shape and type.

        Raises:
            OutOfMemoryError: there is not enough memory for this shape.
            BackendError: PyTorch failed, or this is closed.
        """
        if self._module is None:
            raise BackendError("this backend is closed; load the bundle again")
        try:
            with torch.inference_mode(), _exact_float32():
                # On a CPU this shares the caller's memory; the module never writes into its input.
                tensor = torch.from_numpy(image).to(self._device, self._type)
                restored: NDArray[np.float32] = self._module(tensor).float().cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            text = f"PyTorch failed on an input of {'x'.join(map(str, image.shape))}: {error}"
            no_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
            if no_memory or "can't allocate memory" in str(error):
                raise OutOfMemoryError(text) from error
            raise BackendError(text) from error
        return restored

    def bytes_for(self, shape: Shape) -> int:
        """Rough estimate of the memory that a run takes."""
        per_pixel = BYTES_PER_PIXEL + BYTES_PER_FEATURE * self._features
        return shape.pixels * per_pixel * self._type.itemsize // torch.float32.itemsize

    def free_bytes(self) -> int | None:
        """Free device memory, including what PyTorch keeps."""
        if self.uses_host_memory:
            return super().free_bytes()
        # The driver counts what PyTorch keeps as used, but the next run takes it from there.
        return torch.cuda.mem_get_info(self._device)[0] + self.held_bytes()

    def held_bytes(self) -> int:
        """Memory of the GPU that PyTorch keeps for its next tensors."""
        if self.uses_host_memory:
            return 0
        reserved = torch.cuda.memory_reserved(self._device)
        return reserved - torch.cuda.memory_allocated(self._device)

    def release(self) -> None:
        """Give the GPU's memory back to the driver."""
        if not self.uses_host_memory:
            torch.cuda.empty_cache()

    def after_fork(self) -> None:
        """Run on one thread: those of OpenMP are the parent's, and a run would wait for them."""
        torch.set_num_threads(1)

    def close(self) -> None:
        """Free the weights. Further calls fail."""
        self._module = None


def open_backend(request: Request) -> TorchBackend:
    """The row in `maxim_deploy.runtime.registry` names this; raises as `TorchBackend`."""
    if request.stream is not None:
        raise UsageError("torch uses its own stream; leave stream at None")
    if torch.cuda.is_available():
        device = torch.device("cuda", request.device)
    elif request.device:
        raise UsageError(
            f"device={request.device} is not available: PyTorch has no GPU here; omit device"
        )
    else:
        device = torch.device("cpu")
    precision = FULL if request.precision == "auto" else request.precision
    return TorchBackend(request.bundle, precision, device, request.threads)


def _gpu_name(device: torch.device) -> str:
    name: str = torch.cuda.get_device_name(device)
    return name


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Without TF32, which PyTorch uses for convolutions on a GPU unless told otherwise."""
    # TF32 keeps 10 of float32's 23 bits: other stages are held to more against this one.
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
