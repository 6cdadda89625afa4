"""Options of `load` on a command line: how a bundle is opened and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from maxim_deploy.errors import unknown
from maxim_deploy.spec.precision import PRECISIONS


def _known_backend(_ctx: click.Context, _param: click.Parameter, name: str) -> str:
    """The names come from the table of backends, which is not imported for --help."""
    from maxim_deploy.runtime.registry import backend_names

    known = ("auto", *backend_names())
    if name not in known:
        raise click.BadParameter(unknown("backend", name, known))
    return name


def _number_or_word(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """A number as such, for `load`, which knows the words."""
    return int(value) if value and value.isdecimal() else value


_OPTIONS = (
    click.option(
        "--backend",
        callback=_known_backend,
        metavar="auto|NAME",
        default="auto",
        help="What runs the network; maxim-doctor lists the names.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", *PRECISIONS]),
        default="auto",
        help="Of the network.  [default: the best that the bundle has for the device]",
    ),
    click.option("--device", type=click.IntRange(min=0), help="Index of the GPU.  [default: 0]"),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the backend."),
    click.option(
        "--lanes",
        callback=_number_or_word,
        metavar="auto|N",
        help="Pictures, or frames, that run at a time on a CPU, with a share of the threads each.",
    ),
    click.option(
        "--spinning/--no-spinning",
        default=None,
        help="Let threads of the CPU wait in a loop, or asleep.  [default: asleep if others are "
        "busy]",
    ),
    click.option(
        "--tile",
        callback=_number_or_word,
        metavar="auto|off|N",
        help="Run in tiles what does not fit the memory; never; or what is larger than N.",
    ),
    click.option("--overlap", type=int, help="Pixels that tiles share at least.  [default: 64]"),
    click.option(
        "--max-memory",
        metavar="SIZE",
        help="Most memory, such as 4GiB or 4G: of this process, or of a GPU.",
    ),
    click.option(
        "--allow-host-code",
        is_flag=True,
        default=None,
        help="Let code run on the CPU that a version-compatible engine brings; only if you trust "
        "its builder.",
    ),
)


def loading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each choice of `load`; None means that it was not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
