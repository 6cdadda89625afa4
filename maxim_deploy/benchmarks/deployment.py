"""The suite: deployment graph against literal export and PyTorch eager.

    python -m maxim_deploy.benchmarks.deployment SUITE.toml [-o FILE.jsonl] [--ablation]

The plan [deployment] of the suite, or [ablation]: each rewrite alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from maxim_deploy.benchmarks.comparison import run_plan
from maxim_deploy.benchmarks.records import append_records
from maxim_deploy.benchmarks.suite import read_suite
from maxim_deploy.benchmarks.tables import table_of
from maxim_deploy.errors import MaximDeployError, UsageError


@click.command()
@click.argument("suite", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Append records here.")
@click.option("--ablation", is_flag=True, help="Run the plan [ablation] instead of [deployment].")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep exported graphs here.")
def main(suite: Path, output: Path | None, ablation: bool, cache: Path | None) -> None:
    """Measure the deployment graph; a Markdown table on stdout, progress on stderr."""
    try:
        plans, name = read_suite(suite), "ablation" if ablation else "deployment"
        if name not in plans:
            raise UsageError(f"suite {str(suite)!r} has no plan [{name}]; it has {[*plans]}")
        if output:
            append_records(output, [])  # better to fail now than after half an hour
        with tempfile.TemporaryDirectory() as folder:
            records = run_plan(name, plans[name], cache or Path(folder), _to_stderr)
        if output:
            append_records(output, records)
    except MaximDeployError as error:
        _to_stderr(f"Error: {error}")
        raise SystemExit(error.exit_code) from error
    click.echo(table_of(records))


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
