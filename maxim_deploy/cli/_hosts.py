"""Hosts in `maxim-export`: `--for HOST`, from a bundle or a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy._optional import require_extra
from maxim_deploy._progress import Progress
from maxim_deploy.cli import shell
from maxim_deploy.errors import UsageError, unknown
from maxim_deploy.hosts.order import Wishes
from maxim_deploy.hosts.table import HOSTS, Host
from maxim_deploy.hosts.writing import order_from_bundle, order_from_weights, write_for_host
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import LICENCE
from maxim_deploy.spec.models import MODEL_NAMES
from maxim_deploy.spec.precision import FULL
from maxim_deploy.spec.recipes import IO_TYPES

if TYPE_CHECKING:
    from maxim_deploy.checkpoints import Checkpoint

_OPTIONS = (
    click.option(
        "--for",
        "host",
        metavar="HOST",
        help="Write files for another program instead of a bundle. MODEL may then also be a "
        f"bundle. HOST is one of {', '.join(HOSTS)}.",
    ),
    click.option(
        "--io-type",
        type=click.Choice(IO_TYPES),
        default=FULL,
        help="Type of the planar form's input and output.",
        show_default=True,
    ),
    click.option(
        "--web-runtime",
        type=shell.PATH,
        metavar="DIR",
        help="Folder dist of the npm package onnxruntime-web, for --for web.",
    ),
)


def host_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a host to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def folder_named(model: str | None) -> Path | None:
    """The folder given in place of a model, or None.

    A known name means the model. `./NAME` means a folder.

    Raises:
        UsageError: it is neither a known model nor a folder.
    """
    if model is None or model in MODEL_NAMES:
        return None
    if not Path(model).exists():
        raise UsageError(f"{unknown('model', model, MODEL_NAMES)}; nor is it a bundle")
    return Path(model)


def write_from_bundle(host: Host, wishes: Wishes, bundle: Path, output: Path) -> None:
    """Write a host's files from an existing bundle, without tracing."""
    from maxim_deploy._folders import read_whole

    require_extra("export")

    def write(progress: Progress) -> None:
        order = order_from_bundle(Bundle.open(bundle), host, wishes, progress)
        write_for_host(host, order, output)

    with shell.report_progress() as progress:
        read_whole(bundle, lambda: write(progress))


def write_from_weights(
    host: Host,
    wishes: Wishes,
    read_weights: Callable[[Progress], Checkpoint],
    licence: str | None,
    output: Path,
) -> None:
    """Write the files of a host that needs only weights from a model, without an export.

    Args:
        host: the host.
        wishes: options for the host.
        read_weights: reads the model's weights.
        licence: licence text of the user's weights, or None.
        output: the new folder.
    """
    from maxim_deploy.checkpoints import licence_text

    with shell.report_progress() as progress:
        weights = read_weights(progress)
        if licence is None and weights.descriptor.licence == LICENCE:
            licence = licence_text()
        write_for_host(host, order_from_weights(weights, licence, host, wishes, progress), output)
