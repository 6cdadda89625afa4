"""What an instance of our model in Triton is told, and its share of the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxim_deploy.machine.memory import available_bytes, resident_bytes
from maxim_deploy.machine.processors import usable_processors

MEMORY_SHARE = 0.8
"""Of the memory that is free as an instance starts, for all instances together. The rest is for the
server: pictures of requests that wait, and answers under way."""

PRECISION, THREADS, MAX_MEMORY = "precision", "threads", "max_memory"
"""Names of our parameters in `config.pbtxt`."""


@dataclass(frozen=True)
class Settings:
    """What `config.pbtxt` and Triton say of an instance.

    Attributes:
        gpu: index of its GPU; None on the CPU.
        instances: number of instances of the model on the CPU.
        precision: precision of the network, or "auto", as in `load`.
        threads: CPU threads of the instance; None for its share of the processors.
        max_memory: most memory in bytes; None for its share of the memory.
        sizes: sizes (height, width) of pictures to warm up with.
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
        said = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
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
