"""Engines as they are asked for and as they are listed."""

from __future__ import annotations

from maxim_deploy.spec.engine_settings import (
    EngineSettings,
    engine_settings_from,
)
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.profiles import profiles_from_specs


def asked(**options: object) -> EngineSettings:
    return engine_settings_from({"library": "tensorrt-rtx", "profiles": ["photo"], **options})


def entry(name: str, *specs: str, **values: object) -> EngineEntry:
    known = {
        **dict.fromkeys(EngineEntry.__dataclass_fields__, ""),
        **dict.fromkeys(["bytes", "parsed_layers", "layers", "optimization_level"], 1),
        **dict.fromkeys(["identity", "sha256"], "0" * 64),
        **{key: {} for key in ["made_of", "runtime", "unknown"]},
        "stripped": False,
        "notes": [],
        "file": name,
        "profiles": profiles_from_specs(specs, "image"),
        "targets": ("8.6",),
        "built": EngineRecord(build_seconds=1.5),
        "memory": {},
    }
    return EngineEntry(**{**known, **values})
