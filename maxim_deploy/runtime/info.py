"""What a `Restorer` says of itself."""

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
"""Other options of `load` that change results, with their defaults. The rest (device, threads,
stream, cuda) change how fast a result comes, and not what it is."""


@dataclass(frozen=True)
class RestorerInfo:
    """What a `Restorer` runs.

    Attributes:
        model: name, task and provenance of the weights.
        variant: "S-2" and so on, or None for any other size.
        precision: inside the graph, such as "fp16".
        io: form of the graph, "tensor", or "image" where the bundle has no other.
        backend: "onnxruntime" and so on.
        device: "cpu", or the GPU.
        library: the backend library and its version.
        lanes: of several images, how many run at a time; of `lanes="auto"` it may change once they
            are there. A single call on a CPU has all threads, whatever this is.
        sizes: what it runs whole, in words; everything else it runs in tiles.
        notes: what is to be known of how it runs, such as why TensorRT captures no CUDA graphs, or
            that ONNX Runtime reports to its maker because it was imported before maxim-deploy;
            there may be more after a run.
        not_taken: of `backend="auto"`, why the better backends were not taken, by name.
        multiple_of: both sides are padded to multiples of this before the network sees them.
        settings: everything that results depend on besides the image and the arguments of a call,
            ready for JSON: `result_settings`.
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
        """What people want to know, in a few lines."""
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
    """What results depend on besides their inputs, as records of finished files have it.

    Two runs with the same settings make the same results; records of earlier versions are valid as
    long as the keys stay.

    Args:
        bundle: the directory; another manifest is another bundle.
        options: of `load`, those that were given.
    """
    manifest = settled(bundle) / "manifest.json"
    changed = {
        name: options[name]
        for name, default in _RECORDED_IF_CHANGED.items()
        if options.get(name, default) != default
    }
    return {
        "maxim_deploy": __version__,
        "bundle": sha256_of(manifest) if manifest.exists() else None,  # `load` says what is wrong
        **{name: options.get(name, "auto") for name in _ALWAYS_RECORDED},
        **changed,
    }
