"""The console scripts. Each imports the module of its own command and no other."""

from __future__ import annotations

import click

from maxim_deploy.cli.shell import LazyGroup, command_named, common_options


@click.group(cls=LazyGroup, names=("export", "run", "bench", "parity", "doctor", "demo"))
@common_options
def commands() -> None:
    """MAXIM image restoration, from published checkpoints to deployed engines."""


def main() -> None:
    """`maxim-deploy COMMAND ...`."""
    commands(prog_name="maxim-deploy")


def export() -> None:
    """`maxim-export ...`, the same as `maxim-deploy export ...`."""
    command_named("export")(prog_name="maxim-export")


def run() -> None:
    """`maxim-run ...`, the same as `maxim-deploy run ...`."""
    command_named("run")(prog_name="maxim-run")


def bench() -> None:
    """`maxim-bench ...`, the same as `maxim-deploy bench ...`."""
    command_named("bench")(prog_name="maxim-bench")


def parity() -> None:
    """`maxim-parity ...`, the same as `maxim-deploy parity ...`."""
    command_named("parity")(prog_name="maxim-parity")


def doctor() -> None:
    """`maxim-doctor ...`, the same as `maxim-deploy doctor ...`."""
    command_named("doctor")(prog_name="maxim-doctor")
