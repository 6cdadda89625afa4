"""Options of `load` on a command line: how a bundle is opened and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from maxim_deploy.errors import unknown
from maxim_deploy.spec.precision import PRECISIONS


def _known_backend(_ctx: click.Context, _param: click.Parameter, name: str) -> str:
    """Check the name of a backend. The table of names is not imported for --help."""
    from maxim_deploy.runtime.registry import backend_names

    known = ("auto", *backend_names())
    if name not in known:
        raise click.BadParameter(unknown("backend", name, known))
    return name


def _number_or_word(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """An int if the value is a number; `load` checks the words."""
    return int(value) if value and value.isdecimal() else value


_OPTIONS = (
    click.option(
        "--backend",
        callback=_known_backend,
        metavar="auto|NAME",
        default="auto",
        help="Library that runs the network; maxim-doctor lists the names.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", *PRECISIONS]),
        default="auto",
        help="Precision of the network.  [default: the best in the bundle for the device]",
    ),
    click.option("--device", type=click.IntRange(min=0), help="Index of the GPU.  [default: 0]"),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the backend."),
    click.option(
        "--lanes",
        callback=_number_or_word,
        metavar="auto|N",
        help="Pictures or frames that run at a time on a CPU; they share the threads.",
    ),
    click.option(
        "--spinning/--no-spinning",
        default=None,
        help="Let CPU threads wait in a loop, or asleep.  [default: asleep if other programs are "
        "busy]",
    ),
    click.option(
        "--tile",
        callback=_number_or_word,
        metavar="auto|off|N",
        help="Use tiles for pictures that do not fit the memory (auto), never (off), or for "
        "pictures larger than N.",
    ),
    click.option("--overlap", type=int, help="Least pixels that tiles share.  [default: 64]"),
    click.option(
        "--max-memory",
        metavar="SIZE",
        help="Most memory of this process, or of the GPU, such as 4GiB or 4G.",
    ),
    click.option(
        "--allow-host-code",
        is_flag=True,
        default=None,
        help="Run the CPU code in a version-compatible engine. Use it only if you trust the "
        "engine's builder.",
    ),
)


def loading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `load`; None stands for an option that was not given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
