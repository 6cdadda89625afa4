"""The console scripts. Each imports only the module of its own command."""

from __future__ import annotations

from functools import partial

from maxim_deploy.cli import _signals


def main() -> None:
    """`maxim-deploy COMMAND ...`."""
    _begin()
    from maxim_deploy.cli._ending import run_process
    from maxim_deploy.cli.group import commands

    run_process(commands, "maxim-deploy")


def _run(name: str) -> None:
    """`maxim-NAME ...`, short for `maxim-deploy NAME ...`."""
    _begin()
    from maxim_deploy.cli._ending import run_process
    from maxim_deploy.cli.group import command_named

    run_process(command_named(name), f"maxim-{name}")


def _begin() -> None:
    # Before any other import: Ctrl-C during an import would show a traceback.
    _signals.begin_without_signals()


export = partial(_run, "export")
run = partial(_run, "run")
bench = partial(_run, "bench")
parity = partial(_run, "parity")
doctor = partial(_run, "doctor")
