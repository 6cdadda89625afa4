"""`maxim-doctor`: show what works on this machine, and how to install the rest."""

from __future__ import annotations

import json

import click

from maxim_deploy.cli import shell


@click.command("maxim-doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@shell.common_options
def doctor(as_json: bool) -> None:
    """Show what works on this machine, and the pip line for the rest.

    Every backend is tried with a tiny graph. The exit code is 0 if at least one of them works.
    """
    from maxim_deploy.runtime.doctor import examine, report_text

    report = examine()
    shell.emit(json.dumps(report.to_json(), indent=2) if as_json else report_text(report))
    if not report.some_backend_works:
        raise click.exceptions.Exit(1)
