"""What weights are and where they came from.

A descriptor goes from checkpoint to graph to engine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

LICENCE = "Apache-2.0"
"""Licence of the published checkpoints and of the demo model's weights."""


@dataclass(frozen=True)
class Descriptor:
    """Provenance of a set of weights. Unknown facts are None, never guessed.

    Attributes:
        name: model name, such as "deblurring-gopro", or the file's stem.
        task: "denoising", "deblurring", "deraining", "dehazing" or "enhancement".
        dataset: what it was trained on.
        licence: SPDX identifier of the weights' licence.
        source: URL or file name that the weights were read from; never a full local path.
        source_sha256: SHA-256 of that file.
    """

    name: str
    task: str | None = None
    dataset: str | None = None
    licence: str | None = None
    source: str | None = None
    source_sha256: str | None = None

    def to_json(self) -> dict[str, str]:
        """The known facts by name."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Descriptor:
        """The inverse of `to_json`. Other keys are ignored."""
        known = {field.name for field in fields(cls)}
        named = {key: str(value) for key, value in facts.items() if key in known}
        # Another program may have written a path
        if "://" not in (source := named.get("source", "://")):
            named["source"] = last_component(source)
        return cls(**named)


def last_component(path: str) -> str:
    """The last part of a path of any system. The folders above it would describe the machine."""
    return PurePosixPath(PureWindowsPath(path).as_posix()).name or path
