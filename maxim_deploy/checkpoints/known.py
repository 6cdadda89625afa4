"""Models by name: the demo from the package, published models from the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy.checkpoints.download import downloaded
from maxim_deploy.checkpoints.reading import read_checkpoint
from maxim_deploy.spec.descriptor import LICENCE, Descriptor
from maxim_deploy.spec.models import DEMO, PUBLISHED, check_model_name

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.checkpoint import Checkpoint
    from maxim_deploy.checkpoints.transfer import ByteProgress


def demo_weights() -> Path:
    """The demo model's file in the package (safetensors, float16)."""
    return Path(__file__).parent.parent / "assets" / f"{DEMO}.safetensors"


def licence_text() -> str:
    """The licence text of the published checkpoints and the demo model's weights."""
    return demo_weights().with_name(f"{LICENCE}.txt").read_text("utf-8")


def open_model(
    name: str,
    *,
    file: Path | None = None,
    variant: str | None = None,
    progress: ByteProgress | None = None,
    sha256: str | None = None,
) -> Checkpoint:
    """The weights of a model by name. Published ones are downloaded on first use.

    Args:
        name: one of `maxim_deploy.spec.models.MODEL_NAMES`; any name if `file` is given.
        file: file to read the weights from instead. Facts about `name` still describe them, and its
            published variant is still expected.
        variant: expected variant, such as "S-2".
        progress: called with bytes so far and total bytes (or None) while downloading.
        sha256: required hash of the file, 64 hexadecimal digits.

    Raises:
        UsageError: there is no such model or variant.
        DownloadError: the download failed, or the file has changed since.
        CheckpointError: the file is incomplete, or of another variant.
    """
    if file is None and check_model_name(name) == DEMO:
        return read_checkpoint(demo_weights(), variant=variant, sha256=sha256)
    model = PUBLISHED.get(name)
    if model is None:
        assert file is not None
        own = Descriptor(name)
        return read_checkpoint(file, variant=variant, descriptor=own, sha256=sha256)
    descriptor = Descriptor(name=name, task=model.task, dataset=model.dataset, licence=LICENCE)
    variant = variant or model.variant
    if file is not None:
        return read_checkpoint(file, variant=variant, descriptor=descriptor, sha256=sha256)
    published = replace(descriptor, source=model.url)
    with downloaded(model, progress=progress, sha256=sha256) as path:
        return read_checkpoint(path, variant=variant, descriptor=published, sha256=sha256)
