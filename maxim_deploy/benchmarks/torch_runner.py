"""The literal network in PyTorch, eager or compiled, as a baseline.

GPU: "What ran where" in README.md has the backend `torch`, which runs the same module.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._optional import require
from maxim_deploy.benchmarks.timing import Timed
from maxim_deploy.benchmarks.workload import DEVICE, Bracket, Workload, by_wall
from maxim_deploy.errors import BackendError, MissingDependencyError
from maxim_deploy.machine.processors import threads_to_ask_for
from maxim_deploy.runtime import Restorer
from maxim_deploy.runtime.cuda import Cuda, open_cuda
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.precision import PRECISIONS


class TorchRunner:
    """Runs the literal network in PyTorch; see `maxim_deploy.benchmarks.workload.Runner`.

    TF32 is off, as in the engines of this package. "torch-compile" compiles for one shape with the
    compiler's defaults.

    Args:
        workload: what to load; its file is a bundle with literal weights.

    Raises:
        MissingDependencyError: PyTorch is not installed.
        BackendError: the workload needs a GPU, and PyTorch cannot use one.
    """

    io: str | None = None

    def __init__(self, workload: Workload) -> None:
        torch = self._torch = require("torch", "export")
        from maxim_deploy.checkpoints import read_source
        from maxim_deploy.model import module_from_checkpoint

        self._workload, self._on_gpu = workload, workload.on_gpu
        self.library = f"torch {torch.__version__}"
        self.device, self.cuda = "cpu", None
        if workload.on_gpu:
            self.device, self.cuda = _gpu(torch)
        elif asked := threads_to_ask_for(workload.threads):
            torch.set_num_threads(asked)
        # TF32 keeps 10 bits of the mantissa, so its speed does not compare with 23 bits.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._type = getattr(torch, PRECISIONS[workload.precision].type)
        where = f"cuda:{DEVICE}" if workload.on_gpu else "cpu"
        module: Any = module_from_checkpoint(read_source(Bundle.open(workload.file)))
        module = module.to(where, self._type)
        if workload.runner == "torch-compile":
            # One shape per process, so the compiler may make a kernel for it.
            module = torch.compile(module, dynamic=False)
        self._module, self._where = module, where
        self._inputs = workload.inputs("tensor")
        self._source = self._uploaded()
        self._restored = self._source
        self.brackets: dict[str, Bracket] = {"network": by_wall(self._run)}
        if workload.on_gpu:
            self.brackets = {"network": self._between_events, "transfer": by_wall(self._whole)}

    def result(self) -> NDArray[np.float32]:
        """See `Runner`."""
        return self._workload.unpadded(self._restored.float().cpu().numpy(), "tensor")

    def restorer(self) -> Restorer:
        """There is none."""
        raise KeyError("restorer")

    def _uploaded(self) -> Any:
        return self._torch.from_numpy(self._inputs).to(self._where, self._type)

    def _run(self) -> None:
        with self._torch.inference_mode():
            self._restored = self._module(self._source)

    def _whole(self) -> None:
        with self._torch.inference_mode():
            # `.cpu()` waits for the GPU, so the wall clock around this call covers all of it.
            self._module(self._uploaded()).float().cpu()

    def _between_events(self) -> Timed:
        events = self._torch.cuda
        begin, end = events.Event(enable_timing=True), events.Event(enable_timing=True)
        start = time.perf_counter()
        begin.record()
        self._run()
        end.record()
        end.synchronize()
        return Timed(1e3 * (time.perf_counter() - start), begin.elapsed_time(end))


def _gpu(torch: Any) -> tuple[str, Cuda | None]:
    """Name of the GPU, and access to its memory if cuda-bindings is installed."""
    if not torch.cuda.is_available():
        raise BackendError(f"this torch {torch.__version__} cannot use a GPU here")
    name = f"cuda:{DEVICE} {torch.cuda.get_device_name(DEVICE)}"
    try:
        return name, open_cuda(device=DEVICE)
    except MissingDependencyError:
        return name, None
