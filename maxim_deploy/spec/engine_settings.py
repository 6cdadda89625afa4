"""Settings of an engine, and recipes that contain them.

A recipe is a TOML file with the table `[engine]`; its keys are those of `EngineSettings`, with
`profiles` as a list of SPECs (`maxim_deploy.spec.profiles`) and `workspace` as an amount. `library`
is required. The command line overrides each key:

    [engine]
    library = "tensorrt-rtx"
    profiles = ["720p", "1080p"]
    targets = ["8.6", "8.9", "12.0"]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.spec.decoding import (
    Reader,
    of_type,
    read_flag,
    read_table,
    read_text,
    read_texts,
    read_toml,
)
from maxim_deploy.spec.engine_libraries import ENGINE_LIBRARIES, is_portable
from maxim_deploy.spec.precision import GPU_PRECISIONS, PRECISIONS
from maxim_deploy.spec.profiles import Profile, profiles_from_specs
from maxim_deploy.spec.quantities import bytes_from
from maxim_deploy.spec.recipes import RUNTIME_FORMS

HARDWARE_COMPATIBILITY = ("none", "same-compute-capability", "ampere-plus")
VERBOSITIES = ("none", "names", "detailed")
CUDA_GRAPHS = ("off", "whole-graph")
SPECIALIZATIONS = ("lazy", "eager", "none")

NOT_IN_IDENTITY = ("cuda_graphs", "specialization", "runtime_cache")
"""Settings that only the runtime reads. They do not change the engine."""


@dataclass(frozen=True)
class EngineSettings:
    """One engine of a bundle.

    Attributes:
        library: "tensorrt" or "tensorrt-rtx".
        profiles: at least one.
        precision: precision of the graph to build from; by default the best for a GPU. The graph is
            strongly typed, and no builder flag changes its types.
        io: form of that graph, "image" or "tensor".
        targets: compute capabilities, such as "8.9". "current" is the GPU at hand. If empty,
            TensorRT builds for the GPU at hand, and TensorRT for RTX builds a portable engine (8.0
            and newer).
        optimization_level: 0 (fast build) to 5 (fast engine). TensorRT for RTX builds the same
            engine at every level.
        aux_streams: further CUDA streams on which independent layers may run. Each keeps tensors
            alive that could otherwise share memory. The demo model in fp16 takes 237 bytes per
            pixel with one stream, and 542 with the library's own choice.
        workspace: scratch memory in bytes that one layer may use; None for no limit.
        strip_weights: leave the weights out; the engine is refitted from the bundle's.
        tf32: let float32 products round their inputs to 10 bits.
        hardware_compatibility: "ampere-plus" runs on every GPU from 8.0 on,
            "same-compute-capability" on every GPU of the target's. Both are slower. TensorRT only.
        version_compatible: whether the engine also loads in later versions with the same major
            number. TensorRT only.
        profiling_verbosity: how much the engine records about its layers.
        cuda_graphs: how the runtime uses CUDA graphs. TensorRT for RTX only.
        specialization: when the runtime compiles kernels for new shapes. TensorRT for RTX only.
        runtime_cache: whether the runtime keeps compiled kernels. TensorRT for RTX only.

    Raises:
        UsageError: a value is unknown, or the library has no such setting.
    """

    library: str
    profiles: tuple[Profile, ...]
    precision: str = GPU_PRECISIONS[0]
    io: str = "image"
    targets: tuple[str, ...] = ()
    optimization_level: int = 3
    aux_streams: int = 0
    workspace: int | None = None
    strip_weights: bool = False
    tf32: bool = False
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    profiling_verbosity: str = "detailed"
    cuda_graphs: str = "whole-graph"
    specialization: str = "lazy"
    runtime_cache: bool = True

    def __post_init__(self) -> None:
        check_known("engine library", self.library, ENGINE_LIBRARIES)
        check_known("precision", self.precision, PRECISIONS)
        check_known("I/O form", self.io, RUNTIME_FORMS)
        check_known("hardware_compatibility", self.hardware_compatibility, HARDWARE_COMPATIBILITY)
        check_known("profiling_verbosity", self.profiling_verbosity, VERBOSITIES)
        check_known("cuda_graphs", self.cuda_graphs, CUDA_GRAPHS)
        check_known("specialization", self.specialization, SPECIALIZATIONS)
        for name, most in (("optimization_level", 5), ("aux_streams", 7)):
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(f"{name} is 0 to {most}, not {getattr(self, name)}")
        _check_targets(self.targets)
        self._check_library()

    def _check_library(self) -> None:
        """Refuse settings that the library would silently ignore."""
        if is_portable(self.library):
            wrong = {
                "hardware_compatibility": self.hardware_compatibility != "none",
                "version_compatible": self.version_compatible,
            }
            advice = (
                "its engines are portable by themselves: name compute capabilities with --target"
            )
        else:
            wrong = {"targets": self.targets not in ((), ("current",))}
            advice = "it builds for the GPU at hand: use hardware_compatibility, or tensorrt-rtx"
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise UsageError(f"{self.library} has no {name}; {advice}")

    @property
    def for_this_gpu(self) -> bool:
        """Whether the engine is built for the GPU at hand rather than for named or all GPUs."""
        return not is_portable(self.library) or self.targets == ("current",)

    def for_runtime(self) -> dict[str, Any]:
        """The settings that only the runtime reads."""
        return {name: getattr(self, name) for name in NOT_IN_IDENTITY}

    def to_json(self) -> dict[str, Any]:
        """As the manifest records them. Profiles have a field of their own there."""
        record = {key: value for key, value in asdict(self).items() if key != "profiles"}
        return {**record, "targets": list(self.targets)}


def _check_targets(targets: tuple[str, ...]) -> None:
    for target in targets:
        if target != "current" and not re.fullmatch(r"\d+\.\d", target):
            raise UsageError(
                f"unknown target {target!r}: a compute capability such as 8.9, or 'current'"
            )
    if "current" in targets and len(targets) > 1:
        raise UsageError("the target 'current' excludes other targets")
    if len(set(targets)) < len(targets):
        raise UsageError(f"a target is named twice: {', '.join(targets)}")


def engine_settings_from(options: Mapping[str, Any]) -> EngineSettings:
    """Settings from a recipe or a command line. The keys are those of a recipe.

    Raises:
        UsageError: a key is unknown or missing, or a value has a wrong type or is not valid.
    """
    values = read_table(options, _READERS)
    if "library" not in values:
        raise UsageError(f"name the engine library: {', '.join(ENGINE_LIBRARIES)}")
    io = values.get("io", "image")
    check_known("I/O form", io, RUNTIME_FORMS)
    return EngineSettings(
        **{**values, "profiles": profiles_from_specs(values.get("profiles", ()), io)}
    )


def read_engine_recipe(path: Path) -> dict[str, Any]:
    """The table `[engine]` of a recipe, with its keys checked; empty if there is none.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or a wrong value.
    """
    return read_toml(path, "recipe", _engine_table)


def _engine_table(recipe: dict[str, Any]) -> dict[str, Any]:
    table = recipe.get("engine", {})
    if not isinstance(table, dict):
        raise UsageError("engine must be a table: [engine]")
    if "engine" in recipe:
        engine_settings_from({"profiles": ["photo"], **table})
    return table


_OF_TYPE = {"str": read_text, "bool": read_flag, "tuple[str, ...]": read_texts}
_READERS: dict[str, Reader] = {
    field.name: _OF_TYPE.get(str(field.type), read_text) for field in fields(EngineSettings)
} | {
    "profiles": read_texts,
    "optimization_level": of_type(int, "a number from 0 to 5"),
    "aux_streams": of_type(int, "a number from 0 to 7"),
    "workspace": lambda key, amount: bytes_from(amount, key),
}
