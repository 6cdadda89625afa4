"""The ingredients of an engine. Equal ingredients make an equal engine, but bytes may differ."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_settings import NOT_IN_IDENTITY, EngineSettings
from maxim_deploy.spec.manifest import GraphEntry


def ingredients(
    bundle: Bundle, graph: GraphEntry, settings: EngineSettings, version: str, gpu: str | None
) -> dict[str, Any]:
    """All ingredients of an engine by name.

    Args:
        bundle: bundle of the graph.
        graph: graph to build from.
        settings: settings. All except `NOT_IN_IDENTITY` count.
        version: version of the library.
        gpu: name and compute capability of the GPU, if the engine is built for this GPU.
    """
    kept = {key: v for key, v in settings.to_json().items() if key not in NOT_IN_IDENTITY}
    # A TensorRT engine does not load on another operating system.
    return {
        **bundle.digests(graph),
        "profiles": [f"{p.min} : {p.opt} : {p.max}" for p in settings.profiles],
        **kept,
        "version": version,
        "gpu": gpu,
        "system": f"{platform.system().lower()}-{platform.machine().lower()}",
    }


def identity_of(made_of: dict[str, Any]) -> str:
    """SHA-256 of the ingredients, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The differing ingredients, a line each."""
    return [
        f"{name}: {_short(before.get(name))} there, {_short(after.get(name))} now"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 and text.isalnum() else text
