"""`maxim-deploy accept`: run all steps that this machine supports, and write one record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from maxim_deploy.cli import shell
from maxim_deploy.errors import check_known
from maxim_deploy.spec.quantities import seconds_from

if TYPE_CHECKING:
    from maxim_deploy.accept.record import Record


@click.command("maxim-deploy accept")
@click.argument("bundle", required=False, type=shell.PATH)
@click.option(
    "-o", "--output", type=shell.PATH, metavar="FILE.json", help="Write the record to this file."
)
@click.option("--only", multiple=True, metavar="STEP", help="Run only this step; repeatable.")
@click.option("--list", "as_list", is_flag=True, help="List the steps without running them.")
@click.option(
    "--time-limit", default="20m", show_default=True, metavar="TIME", help="For everything."
)
@click.option(
    "--s2", "with_large", is_flag=True, help="Also run S-2 with random weights, even without a GPU."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the record to stdout and the steps to stderr."
)
@shell.common_options
def accept(
    bundle: Path | None,
    output: Path | None,
    only: tuple[str, ...],
    as_list: bool,
    time_limit: str,
    with_large: bool,
    as_json: bool,
) -> None:
    """Run every step that this machine supports, and report what passed, failed or could not run.

    BUNDLE is not modified. Without one, the demo model is used, and on a GPU also S-2 with random
    weights. The exit code is 0 if no step failed.
    """
    from maxim_deploy.accept import runner
    from maxim_deploy.accept.models import models_of
    from maxim_deploy.accept.plan import STEPS, listed
    from maxim_deploy.accept.record import FAILED

    if as_list:
        shell.emit(listed())
        return
    for name in only:
        check_known("step", name, [step.name for step in STEPS])
    limit_s = seconds_from(time_limit, "--time-limit")
    machine = runner.machine_at_hand()
    models = models_of(bundle, with_large or machine.gpus > 0, shell.say)

    def tell(so_far: Record) -> None:
        (shell.say if as_json else shell.emit)(str(so_far.outcomes[-1]))
        # After each step: the machine may be lost, and an unwritable file should show early.
        if output is not None:
            so_far.write(output)

    record = runner.accept(models, machine, only=only, limit_s=limit_s, tell=tell)
    if as_json:
        shell.emit(record.to_json())
    counts = record.counts()
    shell.say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts[FAILED]:
        raise click.exceptions.Exit(1)
