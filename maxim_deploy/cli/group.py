"""`maxim-deploy`: all commands under one name. Each is imported on use."""

from __future__ import annotations

from importlib import import_module

import click

from maxim_deploy.cli.shell import common_options

_NAMES = ("export", "run", "bench", "parity", "doctor", "demo", "accept", "serve", "triton")
"""The commands, in the order of use."""


class _LazyGroup(click.Group):
    """A group whose command `x` is `maxim_deploy.cli.x.x`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names of all commands."""
        return list(_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, or None if there is no such command."""
        return command_named(cmd_name) if cmd_name in _NAMES else None


def command_named(name: str) -> click.Command:
    """The command `NAME` of the module `maxim_deploy.cli.NAME`."""
    command = getattr(import_module(f"maxim_deploy.cli.{name}"), name)
    assert isinstance(command, click.Command)
    return command


@click.group(cls=_LazyGroup)
@common_options
def commands() -> None:
    """MAXIM image restoration, from published checkpoints to deployed engines."""
