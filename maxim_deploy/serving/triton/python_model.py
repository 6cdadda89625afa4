"""The model that Triton's python backend runs: a bundle through a `Restorer`.

`model.py` of a version folder derives from `PythonModel` and says where the bundle is. Triton calls
`initialize`, `execute` and `finalize` in a process of their own for each instance.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, MaximDeployError, UsageError
from maxim_deploy.machine.memory import available_bytes, resident_bytes
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.runtime import Restorer, load
from maxim_deploy.serving.triton.tensors import Tensors

Images = Sequence[NDArray[np.uint8]]
"""Each `[H, W, 3]`, RGB."""

MEMORY_SHARE = 0.8
"""Of the memory that is free as an instance starts, for all instances together. The rest is for the
server: pictures of requests that wait, and answers under way."""

PRECISION, THREADS, MAX_MEMORY = "precision", "threads", "max_memory"
"""Names of our parameters in `config.pbtxt`."""


class PythonModel:
    """One instance of a model in Triton's python backend.

    Attributes:
        bundle: the folder of the bundle, set by `model.py`.
    """

    bundle: Path

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle; called once, as the model is loaded.

        Args:
            args: as Triton gives them; of these the configuration, and the kind and the device of
                the instance.

        Raises:
            TritonModelException: the bundle cannot be opened as configured.
        """
        # Only the server's own Python processes have this module.
        self._triton = importlib.import_module("triton_python_backend_utils")
        self._tensors = Tensors(self._triton)
        try:
            settings = Settings.from_arguments(args)
            self._restorer = load(self.bundle, **settings.load_options())
            _check_device(self._restorer, settings)
            self._restorer.warmup(settings.sizes)
        except MaximDeployError as error:
            raise self._triton.TritonModelException(str(error)) from error

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Restore the pictures of some requests together.

        Args:
            requests: each with an `image`, uint8 `[N, H, W, 3]`. Sizes may differ.

        Returns:
            A response for each, in order: `restored` of the same shape and type, or an error.
        """
        answers: dict[int, Any] = {}
        stacks: dict[int, NDArray[np.uint8]] = {}
        for index, request in enumerate(requests):
            if request.is_cancelled():
                answers[index] = self._error("the request was cancelled", "CANCELLED")
                continue
            try:
                stacks[index] = checked_stack(self._tensors.image(request))
            except UsageError as error:
                answers[index] = self._error(str(error), "INVALID_ARG")
        for index, restored in self._restored(stacks).items():
            answers[index] = self._answer(restored)
        return [answers[index] for index in range(len(requests))]

    def finalize(self) -> None:
        """Give the memory back; called once, as the model is unloaded."""
        self._restorer.close()

    def _restored(
        self, stacks: Mapping[int, NDArray[np.uint8]]
    ) -> dict[int, NDArray[np.uint8] | MaximDeployError]:
        try:
            restored = iter(
                restore_together(self._restorer, [x for s in stacks.values() for x in s])
            )
            return {
                index: np.stack([next(restored) for _ in stack]) for index, stack in stacks.items()
            }
        except MaximDeployError as error:
            if len(stacks) == 1:
                return dict.fromkeys(stacks, error)
        # One picture that cannot be restored must not take the others of its batch with it.
        return {i: r for i, s in stacks.items() for r in self._restored({i: s}).values()}

    def _answer(self, restored: NDArray[np.uint8] | MaximDeployError) -> Any:
        if isinstance(restored, UsageError):
            return self._error(str(restored), "INVALID_ARG")
        if isinstance(restored, MaximDeployError):
            return self._error(str(restored), "INTERNAL")
        return self._triton.InferenceResponse([self._tensors.restored(restored)])

    def _error(self, text: str, code: str) -> Any:
        error = self._triton.TritonError(text, getattr(self._triton.TritonError, code))
        return self._triton.InferenceResponse([], error)


@dataclass(frozen=True)
class Settings:
    """What `config.pbtxt` and Triton say of an instance.

    Attributes:
        gpu: index of its GPU; None on the CPU.
        instances: of the model, on the CPU.
        precision: as of `load`.
        threads: of the instance; None for its share of the processors.
        max_memory: bytes; None for its share of the memory.
        sizes: (height, width) to warm up with.
    """

    gpu: int | None
    instances: int
    precision: str
    threads: int | None
    max_memory: int | None
    sizes: tuple[tuple[int, int], ...]

    @classmethod
    def from_arguments(cls, args: Mapping[str, str]) -> Settings:
        """From what Triton calls `initialize` with."""
        config = json.loads(args["model_config"])
        said = {key: value["string_value"] for key, value in config["parameters"].items()}
        groups = [one for one in config["instance_group"] if one["kind"] != "KIND_GPU"]
        samples = [one["inputs"]["image"]["dims"] for one in config.get("model_warmup", ())]
        return cls(
            int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None,
            sum(int(one["count"]) for one in groups) or 1,
            said.get(PRECISION, "auto"),
            int(said[THREADS]) if THREADS in said else None,
            int(said[MAX_MEMORY]) if MAX_MEMORY in said else None,
            # Numbers of 64 bits are text in the JSON of protocol buffers.
            tuple((int(height), int(width)) for height, width, _ in samples),
        )

    def load_options(self) -> dict[str, Any]:
        """Options of `load`, for the processors and the memory of this machine as they are now."""
        options = {"precision": self.precision, "max_memory": self.max_memory}
        if self.gpu is not None:
            return {**options, "backend": "auto", "device": self.gpu}
        threads, limit = self.threads, self.max_memory
        if threads is None and self.instances > 1:
            threads = max(1, usable_processors() // self.instances)
        if limit is None:
            limit = resident_bytes() + int(MEMORY_SHARE * available_bytes() / self.instances)
        return {
            **options,
            "backend": "onnxruntime",
            "threads": threads,
            "max_memory": limit,
            # One instance has lanes in it, as many as were measured to be best; several instances
            # are lanes themselves.
            "lanes": "auto" if self.instances == 1 else 1,
        }


def _check_device(restorer: Restorer, settings: Settings) -> None:
    """Refuse to run on the CPU what was configured for a GPU: nobody would notice."""
    info = restorer.info
    if settings.gpu is not None and info.device == "cpu":
        reasons = "; ".join(f"{name}: {why}" for name, why in info.not_taken.items())
        restorer.close()
        raise BackendError(f"GPU {settings.gpu} cannot run the bundle: {reasons}")


def checked_stack(stack: NDArray[Any]) -> NDArray[np.uint8]:
    """An array `[N, H, W, 3]` of pictures that there is something to restore of.

    Raises:
        UsageError: it is empty. Triton itself refuses other types and another number of axes or
            channels.
    """
    if 0 in stack.shape:
        shape = "x".join(map(str, stack.shape))
        raise UsageError(
            f"input 'image' of {shape} | it has no pixels | expected uint8 [N, H, W, 3] with N, H "
            "and W from 1 on"
        )
    return stack


def restore_together(restorer: Restorer, images: Images) -> list[NDArray[np.uint8]]:
    """Restore pictures whose sizes may differ, as many at a time as the restorer has lanes.

    Raises:
        MaximDeployError: as `Restorer.batch` does; nothing is returned then.
    """
    if not images:
        return []
    info = restorer.info
    # A GPU's lanes overlap transfers with arithmetic, and gain less than a larger batch does.
    lanes = min(info.lanes if info.device == "cpu" else 1, len(images))
    if lanes == 1:
        return restorer.batch(images)
    shares = shared_out(images, lanes)
    restored: dict[int, NDArray[np.uint8]] = {}
    with ThreadPoolExecutor(lanes, "maxim-deploy-triton") as pool:
        done = pool.map(lambda share: restorer.batch([images[k] for k in share]), shares)
        for share, results in zip(shares, done, strict=True):
            restored |= dict(zip(share, results, strict=True))
    return [restored[index] for index in range(len(images))]


def shared_out(images: Images, count: int) -> list[list[int]]:
    """Indices of pictures in shares of about as many pixels, the largest dealt first."""
    shares: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for index in sorted(range(len(images)), key=lambda k: images[k].size, reverse=True):
        least = sizes.index(min(sizes))
        shares[least].append(index)
        sizes[least] += images[index].size
    return shares
