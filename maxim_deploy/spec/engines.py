"""The engines of a bundle as its manifest lists them, and the choice among them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from maxim_deploy.spec.decoding import NOT_STORED
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.profiles import Profile, Shape, tightest
from maxim_deploy.spec.traffic import Traffic

ENGINE_FOLDER = "engines"
"""Directory of engines in a bundle."""

PORTABLE = "8.0+"
"""Target of an engine that runs on every supported GPU of compute capability 8.0 and newer."""


@dataclass(frozen=True)
class EngineEntry:
    """One engine of a bundle.

    Attributes:
        file: its path in the bundle.
        identity: hash of everything in `made_of`.
        made_of: graph, weights, profiles, settings, library, target and operating system.
        library: "tensorrt" or "tensorrt-rtx".
        version: version of the library that built it.
        precision: of its graph.
        io: form of its graph.
        profiles: in the engine's order.
        targets: compute capabilities that it runs on; "8.0+" for a portable one.
        runtime: settings that the runtime reads.
        stripped: whether it must be refitted with the bundle's weights.
        sha256: of the file.
        bytes: of the file.
        optimization_level: level that it was built at: lower than requested if a budget required
            it.
        memory: bytes that the builder reported: any of `activation_bytes`, `scratch_bytes` and
            `weights_bytes`.
        parsed_layers: number of layers of the network as parsed, before fusion.
        layers: number of layers of the engine, or None if the library does not say.
        notes: remarks for the user.
        built: measurements and dates of its build. They are in `export.json`, not in the manifest.
        unknown: keys that only newer versions know, kept when the manifest is written again.
    """

    file: str
    identity: str
    made_of: dict[str, Any]
    library: str
    version: str
    precision: str
    io: str
    profiles: tuple[Profile, ...]
    targets: tuple[str, ...]
    runtime: dict[str, Any]
    stripped: bool
    sha256: str
    bytes: int
    optimization_level: int
    memory: dict[str, int]
    parsed_layers: int
    layers: int | None
    notes: list[str] = field(default_factory=list)
    built: EngineRecord = field(default_factory=EngineRecord, metadata=NOT_STORED)
    unknown: dict[str, Any] = field(default_factory=dict)

    def profile_for(self, shape: Shape) -> int | None:
        """Index of the profile to run a shape with; None if no profile takes it."""
        return tightest(self.profiles, shape)

    def traffic_of(self, profile: int) -> Traffic | None:
        """Traffic of its layers with the profile of this index; None if unknown."""
        known = [traffic for traffic in self.built.traffic if traffic.is_counted]
        return known[profile] if len(known) == len(self.profiles) else None

    def bytes_for(self, shape: Shape) -> int | None:
        """Estimated memory of a run, including both images, before the engine is opened.

        It scales the builder's figure for the largest shape by padded pixels. None without a
        figure.
        """
        activations = self.memory.get("activation_bytes")
        if not activations:
            return None
        share = shape.padded_pixels / max(profile.max.padded_pixels for profile in self.profiles)
        images = 2 * math.prod(shape.dims(self.io)) * (1 if self.io == "image" else 4)
        return math.ceil(share * activations) + images


def engine_for(
    engines: Iterable[EngineEntry], shape: Shape, **wanted: str
) -> tuple[EngineEntry, int] | None:
    """The engine and the index of its profile to run a shape with.

    A profile for exactly this shape comes before a range, and a tight range before a wide one. Of
    two equal engines, the one added later is taken.

    Args:
        engines: the candidates, in the manifest's order: the one added last comes last.
        shape: batch, height and width of the graph's input.
        wanted: required values of attributes, such as `library="tensorrt-rtx"`.

    Returns:
        None if no engine takes the shape.
    """
    fitting = [
        (engine, index)
        for engine in engines
        if all(getattr(engine, name) == value for name, value in wanted.items())
        and (index := engine.profile_for(shape)) is not None
    ]
    newest_first = reversed(fitting)
    return min(
        newest_first, key=lambda found: found[0].profiles[found[1]].looseness(), default=None
    )
