"""Read a file of weights into a checkpoint: complete, finite, in the published layout."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy._files import sha256_of
from maxim_deploy._reading import require_regular
from maxim_deploy.checkpoints.architecture import architecture_from_shapes
from maxim_deploy.checkpoints.checkpoint import Arrays, Checkpoint
from maxim_deploy.checkpoints.checks import check_finite, check_names, check_shapes, check_variant
from maxim_deploy.checkpoints.files import KINDS, read_stored
from maxim_deploy.checkpoints.layout import parameter_shapes
from maxim_deploy.checkpoints.torch_layout import from_torch, torch_name, torch_shapes
from maxim_deploy.errors import BundleError, CheckpointError
from maxim_deploy.spec.architecture import Architecture, architecture_of
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from maxim_deploy.checkpoints.entries import Stored

logger = logging.getLogger(__name__)


def read_checkpoint(
    path: Path | str,
    *,
    variant: str | None = None,
    descriptor: Descriptor | None = None,
    sha256: str | None = None,
) -> Checkpoint:
    """Read a published `.npz`, a safetensors file or a PyTorch file, recognised by content.

    Names may be the published ones or those of our PyTorch module's state dict, with any prefix and
    in any nested dicts. Of several sets of weights, a moving average (`params_ema`) is taken, or
    else the first. `Checkpoint.taken` says which one, and a warning does too if there are several.
    float16, bfloat16 and float64 are converted to float32.

    Args:
        path: the file.
        variant: expected variant, such as "S-2". It is compared with the weights.
        descriptor: facts about the weights. `source` and `source_sha256` are added (a given
            `source`, such as a URL, stays). Without a descriptor it comes from safetensors
            metadata, and missing facts from the file's name.
        sha256: required hash of the file, 64 hexadecimal digits.

    Raises:
        CheckpointError: the file cannot be read, or its weights are incomplete, not finite, of
            wrong shapes or of another variant; the message lists up to a limit of parameters.
        UsageError: there is no such variant.
        MissingDependencyError: the library for this kind of file is not installed.
    """
    path = Path(path)
    if variant is not None:
        architecture_of(variant)  # a misspelt variant is the caller's error, not the file's
    try:
        digest = _digest(path)
        if sha256 and digest != sha256:
            raise CheckpointError(f"its SHA-256 is {digest}, expected is {sha256}")
        stored = read_stored(path)
        arrays, architecture = _published(stored, variant)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {str(path)!r}: {error}") from error
    taken = stored.selection.taken
    if taken:
        logger.log(
            logging.WARNING if stored.selection.others else logging.INFO,
            "checkpoint %r: the weights are those of %s",
            str(path),
            taken,
        )
    return Checkpoint(arrays, architecture, _described(path, digest, stored, descriptor), taken)


def read_source(bundle: Bundle) -> Checkpoint:
    """The literal weights of a bundle, after comparing their hash.

    Raises:
        BundleError: the bundle has none, or the file is missing or has changed.
        CheckpointError: as `read_checkpoint`.
    """
    source = bundle.manifest.source
    if source is None:
        raise BundleError(
            f"bundle {str(bundle.path)!r} | has no literal weights | export it again without "
            "--no-source"
        )
    # A private copy: another process may replace the file after it was hashed.
    with bundle.private(source) as folder:
        return read_checkpoint(folder / source)


def _digest(path: Path) -> str:
    if path.is_dir():
        raise CheckpointError(f"this is a directory; expected {KINDS}")
    try:
        require_regular(path)
        return sha256_of(path)
    except FileNotFoundError:
        raise CheckpointError(f"there is no such file; expected {KINDS}") from None
    except OSError as error:
        raise CheckpointError(f"the file cannot be read: {error.strerror}") from error


def _published(stored: Stored, variant: str | None) -> tuple[Arrays, Architecture]:
    """The checked arrays of a file by published path, in published layout."""
    is_state_dict = set("./") & set("".join(stored.shapes)) == {"."}

    def name_of(path: str) -> str:
        return stored.selection.in_file(torch_name(path) if is_state_dict else path)

    # The keys that reveal the architecture are biases, which have the same names and shapes in both
    # layouts.
    shapes = {name.replace(".", "/"): shape for name, shape in stored.shapes.items()}
    architecture = architecture_from_shapes(shapes, name_of)
    check_variant(architecture, variant)

    expected = parameter_shapes(architecture)
    short_names = {stored.selection.in_file(name): name for name in stored.shapes}
    check_names(short_names, [name_of(path) for path in expected], architecture)

    accepted = {
        path: torch_shapes(path, shape) if is_state_dict else (shape,)
        for path, shape in expected.items()
    }
    own = {path: short_names[name_of(path)] for path in expected}
    check_shapes({path: stored.shapes[name] for path, name in own.items()}, accepted, name_of)
    # The data are read only now, after their sizes were found to fit a network.
    read = stored.read()
    arrays = {path: read[name] for path, name in own.items()}
    if is_state_dict:
        arrays = {path: from_torch(path, array, expected[path]) for path, array in arrays.items()}
    check_finite({name_of(path): array for path, array in arrays.items()})
    return arrays, architecture


def _described(path: Path, digest: str, stored: Stored, given: Descriptor | None) -> Descriptor:
    file = {"source": _text(path.name), "source_sha256": digest}
    if given is not None:
        own = file | ({"source": given.source} if given.source else {})
        return replace(given, name=_text(given.name), **own)
    facts = {"name": _text(path.stem), **stored.metadata}
    if not {"source", "source_sha256"} <= facts.keys():
        facts |= file
    return Descriptor.from_json(facts)


def _text(name: str) -> str:
    """A file name in valid UTF-8. Names in a file system may have other bytes."""
    return os.fsencode(name).decode("utf-8", "replace")
