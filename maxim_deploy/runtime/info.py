"""What a `Restorer` says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.descriptor import Descriptor


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
        sizes: what it runs whole, in words; everything else it runs in tiles.
        not_taken: of `backend="auto"`, why the better backends were not taken, by name.
        multiple_of: both sides are padded to multiples of this before the network sees them.
    """

    model: Descriptor
    variant: str | None
    precision: str
    io: str
    backend: str
    device: str
    library: str
    sizes: str = "any"
    not_taken: dict[str, str] = field(default_factory=dict)
    multiple_of: int = MULTIPLE_OF
