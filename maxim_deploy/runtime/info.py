"""Information about a `Restorer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxim_deploy._files import sha256_of
from maxim_deploy._folders import settled
from maxim_deploy._version import __version__
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.descriptor import Descriptor

_ALWAYS_RECORDED = ("backend", "precision")
_RECORDED_IF_CHANGED = {"tile": "auto", "overlap": None, "max_memory": None}
"""Further options of `load` that change results, with their defaults. The others (device, threads,
stream, cuda) change only the speed."""


@dataclass(frozen=True)
class RestorerInfo:
    """Properties of a `Restorer`.

    Attributes:
        model: name, task and provenance of the weights.
        variant: variant such as "S-2", or None for another size.
        precision: precision inside the graph, such as "fp16".
        io: form of the graph: "tensor", or "image" if the bundle has no other.
        backend: name of the backend, such as "onnxruntime".
        device: "cpu", or the GPU.
        library: the backend library and its version.
        lanes: number of images that run at a time if there are several. With `lanes="auto"` it may
            change when they arrive. A single call on a CPU always has all threads.
        sizes: sizes that run whole, in words. Other sizes run in tiles.
        notes: remarks on how it runs. Examples: why TensorRT captures no CUDA graphs, or that ONNX
            Runtime reports to its maker because it was imported before maxim-deploy. A run may add
            some.
        not_taken: with `backend="auto"`, the reasons against better backends, by name.
        multiple_of: both sides are padded to multiples of this for the network.
        settings: everything besides the image and the call's arguments that results depend on, as
            `result_settings`, ready for JSON.
    """

    model: Descriptor
    variant: str | None
    precision: str
    io: str
    backend: str
    device: str
    library: str
    lanes: int = 1
    sizes: str = "any"
    notes: tuple[str, ...] = ()
    not_taken: dict[str, str] = field(default_factory=dict)
    multiple_of: int = MULTIPLE_OF
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """A summary in a few lines."""
        facts = (self.model.task, self.model.dataset, self.variant)
        about = ", ".join(fact for fact in facts if fact)
        lines = [
            f"{self.model.name}{f' ({about})' if about else ''}",
            f"{self.precision} {self.io} graph on {self.library}, {self.device}",
            f"sizes that run whole: {self.sizes}; sides are padded to multiples of "
            f"{self.multiple_of}",
            *([f"of several images {self.lanes} run at a time"] if self.lanes > 1 else []),
            *(f"note: {note}" for note in self.notes),
            *(f"not taken: {name}: {why}" for name, why in self.not_taken.items()),
        ]
        return "\n".join(lines)


def result_settings(bundle: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What results depend on besides their inputs, for records of finished files.

    Two runs with the same settings make the same results. Records of earlier versions stay valid as
    long as the keys stay.

    Args:
        bundle: the directory. Another manifest means another bundle.
        options: the given options of `load`.
    """
    manifest = settled(bundle) / "manifest.json"
    changed = {
        name: options[name]
        for name, default in _RECORDED_IF_CHANGED.items()
        if options.get(name, default) != default
    }
    return {
        "maxim_deploy": __version__,
        # `load` will report the error
        "bundle": sha256_of(manifest) if manifest.exists() else None,
        **{name: options.get(name, "auto") for name in _ALWAYS_RECORDED},
        **changed,
    }
