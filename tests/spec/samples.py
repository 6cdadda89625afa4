"""Engines as they are asked for and as they are listed."""

from __future__ import annotations

from maxim_deploy.spec.engine_settings import (
    EngineSettings,
    engine_settings_from,
)
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.profiles import profiles_from_specs


def asked(**options: object) -> EngineSettings:
    return engine_settings_from({"library": "tensorrt-rtx", "profiles": ["photo"], **options})


def entry(name: str, *specs: str, created: str = "1", **values: object) -> EngineEntry:
    known = {
        **dict.fromkeys(EngineEntry.__dataclass_fields__, ""),
        **dict.fromkeys(["bytes", "parsed_layers", "layers", "optimization_level"], 1),
        **{key: {} for key in ["made_of", "runtime", "built_on", "unknown"]},
        "build_seconds": 1.5,
        "stripped": False,
        "traffic": [],
        "notes": [],
        "file": name,
        "profiles": profiles_from_specs(specs, "image"),
        "targets": ("8.6",),
        "created": created,
        "memory": {},
    }
    return EngineEntry(**{**known, **values})
