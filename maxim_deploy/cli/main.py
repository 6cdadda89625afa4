"""The console scripts. Each imports the module of its own command and no other."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import click

from maxim_deploy.cli.shell import common_options, run_process

_NAMES = ("export", "run", "bench", "parity", "doctor", "demo", "accept")
"""The commands, in the order of use."""


class _LazyGroup(click.Group):
    """A group whose command `x` is `maxim_deploy.cli.x.x`, imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names."""
        return list(_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, or None if there is no such command."""
        return _command(cmd_name) if cmd_name in _NAMES else None


def _command(name: str) -> click.Command:
    command = getattr(import_module(f"maxim_deploy.cli.{name}"), name)
    assert isinstance(command, click.Command)
    return command


@click.group(cls=_LazyGroup)
@common_options
def commands() -> None:
    """MAXIM image restoration, from published checkpoints to deployed engines."""


def main() -> None:
    """`maxim-deploy COMMAND ...`."""
    run_process(commands, "maxim-deploy")


def _run(name: str) -> None:
    """`maxim-NAME ...`, the same as `maxim-deploy NAME ...`."""
    run_process(_command(name), f"maxim-{name}")


export = partial(_run, "export")
run = partial(_run, "run")
bench = partial(_run, "bench")
parity = partial(_run, "parity")
doctor = partial(_run, "doctor")
