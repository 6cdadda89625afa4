"""Write a host's folder from a bundle or weights. It appears whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy._folders import atomic_directory, tidy
from maxim_deploy._progress import Progress
from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.hosts.order import Order, Wishes
from maxim_deploy.hosts.table import Host
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import LICENCE_FILE
from maxim_deploy.spec.precision import FULL

if TYPE_CHECKING:
    from maxim_deploy.checkpoints import Checkpoint

_FREE = "choose another name with -o, or move it away"


def write_for_host(host: Host, order: Order, folder: Path) -> None:
    """Write a host's files into a new folder.

    Raises:
        UsageError: something is there.
        BundleError: a file of the bundle is missing or has changed.
        MissingDependencyError: a library is not installed; the message is the pip line.
    """
    check_free(folder)
    try:
        tidy(folder)
        with atomic_directory(folder, replace=False) as partial:
            host.write(order, partial)
    except FileExistsError as error:
        raise UsageError(f"output {str(folder)!r} | exists meanwhile | {_FREE}") from error
    except OSError as error:
        raise UsageError(f"output {str(folder)!r} | cannot be written: {error}") from error


def check_free(folder: Path) -> None:
    """Raise an error for an existing file or a folder that is not empty.

    Raises:
        UsageError: something is there.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"output {str(folder)!r} | exists | {_FREE}")


def order_from_bundle(bundle: Bundle, host: Host, wishes: Wishes, progress: Progress) -> Order:
    """The order of a host for a bundle. Only the licence is read yet.

    Raises:
        BundleError: the bundle lacks graphs or weights; the message says how to get them.
    """
    manifest = bundle.manifest
    if host.needs_source and manifest.source is None:
        raise BundleError(
            f"bundle {str(bundle.path)!r} lacks literal weights, which --for {host.name} needs; "
            "export it again without --no-source"
        )
    has_licence = LICENCE_FILE in manifest.files
    return Order(
        manifest.model,
        manifest.architecture,
        _precisions(bundle, host, wishes),
        wishes,
        bundle.read(LICENCE_FILE).decode("utf-8") if has_licence else None,
        progress,
        bundle,
        lambda: _weights_of(bundle),
    )


def order_from_weights(
    checkpoint: Checkpoint, licence: str | None, host: Host, wishes: Wishes, progress: Progress
) -> Order:
    """The order of a host for weights only, without tracing."""
    return Order(
        checkpoint.descriptor,
        checkpoint.architecture,
        wishes.precisions or host.precisions[:1],
        wishes,
        licence,
        progress,
        None,
        lambda: checkpoint,
    )


def _precisions(bundle: Bundle, host: Host, wishes: Wishes) -> tuple[str, ...]:
    if host.io is None:
        return wishes.precisions or host.precisions[:1]
    forms = _forms_that_serve(bundle, host, wishes)
    have = {entry.precision for entry in bundle.manifest.graphs if entry.io in forms}
    wanted = wishes.precisions or tuple(name for name in host.precisions if name in have)
    missing = [name for name in wanted or host.precisions[:1] if name not in have]
    if missing:
        raise _lacks(bundle, host, missing)
    return wanted if host.many else wanted[:1]


def _forms_that_serve(bundle: Bundle, host: Host, wishes: Wishes) -> tuple[str | None, ...]:
    """The graphs in the host's form. A planar graph of the requested type is used directly."""
    there = bundle.manifest.settings.get("io_type", FULL)
    return (host.io, "planar") if host.io == "tensor" and there == wishes.io_type else (host.io,)


def _lacks(bundle: Bundle, host: Host, missing: list[str]) -> BundleError:
    have = ", ".join(f"{entry.precision} {entry.io}" for entry in bundle.manifest.graphs)
    return BundleError(
        f"bundle {str(bundle.path)!r} has no {' or '.join(missing)} graph of the {host.io!r} form, "
        f"which --for {host.name} needs; it has: {have}. Export it again with "
        f"--precision {','.join(missing)} --io {host.io}"
    )


def _weights_of(bundle: Bundle) -> Checkpoint:
    from maxim_deploy.checkpoints import read_checkpoint

    source = bundle.manifest.source
    if source is None:
        raise BundleError(f"bundle {str(bundle.path)!r} was exported with --no-source")
    with bundle.private(source) as folder:
        return read_checkpoint(folder / source, descriptor=bundle.manifest.model)
