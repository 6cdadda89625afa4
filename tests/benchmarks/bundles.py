"""Literal weights in a bundle without graphs."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy._files import sha256_of
from maxim_deploy.benchmarks.artifacts import random_checkpoint
from maxim_deploy.checkpoints import Checkpoint, write_safetensors
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import Manifest

TINY = Architecture(features=4, stages=1, groups=1, bottleneck_blocks=1)


def weights_only(folder: Path, checkpoint: Checkpoint | None = None) -> Bundle:
    """By default of the smallest network there is."""
    checkpoint = checkpoint or random_checkpoint(TINY)
    source = folder / "source.safetensors"
    write_safetensors(source, checkpoint)
    manifest = Manifest(
        model=checkpoint.descriptor,
        architecture=checkpoint.architecture,
        settings={},
        graphs=[],
        source=source.name,
        files={source.name: {"sha256": sha256_of(source), "bytes": source.stat().st_size}},
    )
    bundle = Bundle(folder, manifest)
    bundle.write()
    return bundle
