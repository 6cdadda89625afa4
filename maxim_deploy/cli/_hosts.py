"""The host part of `maxim-export`: what `--for HOST` writes, from a bundle or from a model."""

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
from maxim_deploy.spec.descriptor import LICENCE
from maxim_deploy.spec.manifest import Bundle
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
        help="Write what another program takes in place of a bundle; MODEL may then be a bundle "
        f"too. HOST is one of {', '.join(HOSTS)}.",
    ),
    click.option(
        "--io-type",
        type=click.Choice(IO_TYPES),
        default=FULL,
        help="Type of input and output of the planar form.",
        show_default=True,
    ),
    click.option(
        "--web-runtime",
        type=shell.PATH,
        metavar="DIR",
        help="The folder dist of npm's package onnxruntime-web, for --for web.",
    ),
)


def host_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a host, `host` and `web_runtime`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def folder_named(model: str | None) -> Path | None:
    """The folder that is given in place of a model, or None.

    A known name is the model's; `./NAME` is a folder of that name.

    Raises:
        UsageError: it is neither a model nor a folder.
    """
    if model is None or model in MODEL_NAMES:
        return None
    if not Path(model).exists():
        raise UsageError(f"{unknown('model', model, MODEL_NAMES)}; nor is it a bundle")
    return Path(model)


def write_from_bundle(host: Host, wishes: Wishes, bundle: Path, output: Path) -> None:
    """Write what a host takes of a bundle that is there; nothing is traced."""
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
    """Write what a host that takes weights only takes of a model; nothing is exported.

    Args:
        host: to write for.
        wishes: what was asked for.
        read_weights: reads the model's weights.
        licence: the text of the licence of own weights, or None.
        output: the new folder.
    """
    from maxim_deploy.checkpoints import licence_text

    with shell.report_progress() as progress:
        weights = read_weights(progress)
        if licence is None and weights.descriptor.licence == LICENCE:
            licence = licence_text()
        write_for_host(host, order_from_weights(weights, licence, host, wishes, progress), output)
