"""`maxim-bench`: reproducible latency, throughput and memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from maxim_deploy._optional import require
from maxim_deploy.cli import shell
from maxim_deploy.errors import UsageError
from maxim_deploy.spec.precision import GPU_PRECISIONS, PRECISIONS

if TYPE_CHECKING:
    from maxim_deploy.benchmarks.profile.profile import LayerProfile
    from maxim_deploy.benchmarks.records import Record
    from maxim_deploy.benchmarks.suite_run import SuiteRun


_STUDIES = {
    "tiles": ("tile_sizes", "overlaps", "sigma"),
    "overhead": ("sizes", "rounds", "threads", "calls"),
    "rewrites": ("sizes",),
    "recommend": ("sizes", "rounds", "threads", "backends", "precisions"),
    "lanes": ("sizes", "rounds", "threads", "pictures_of_folder"),
}
"""The options of each study."""

_STUDY_ONLY = dict.fromkeys(_STUDIES["tiles"], "tiles") | {
    "calls": "overhead",
    "pictures_of_folder": "lanes",
}


@click.command("maxim-bench")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, type=shell.PATH)
@click.option(
    "--size", "sizes", multiple=True, metavar="HxW", help="Size of the pictures; repeatable."
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="B",
    help="Backend, as in maxim-run; repeatable.",
)
@click.option(
    "--precision", "precisions", multiple=True, metavar="P", help=f"One of {', '.join(PRECISIONS)}."
)
@click.option("--batch", "batches", multiple=True, type=int, metavar="N", help="Pictures per call.")
@click.option(
    "--against",
    "baselines",
    multiple=True,
    metavar="NAME",
    help=f"Baseline from the bundle's literal weights: torch, 'torch {GPU_PRECISIONS[0]}', "
    "torch-compile, or literal (the plain export).",
)
@click.option("--threads", type=int, help="CPU threads of each subject.  [default: one per core]")
@click.option("--rounds", type=int, help="Turns of each subject.  [default: 7]")
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=shell.PATH,
    metavar="FILE.toml",
    help="Read what to measure from a file; repeatable.",
)
@click.option(
    "--plan", "plan_name", metavar="NAME", help="Run one plan of a suite.  [default: all]"
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Measure only these models of the suite.",
)
@click.option("--baseline", type=shell.PATH, metavar="FILE", help="Compare with earlier records.")
@click.option("--layers", is_flag=True, help="Show the time by block of the network.")
@click.option("--report", type=shell.PATH, metavar="FILE.html", help="Write a report with plots.")
@click.option(
    "--parity",
    type=shell.PATH,
    metavar="FILE.jsonl",
    help="Add output of maxim-parity --json to the report.",
)
@click.option(
    "--pictures",
    type=shell.PATH,
    metavar="DIR",
    help="Add these images, restored with the first BUNDLE, to the report. With input/ and "
    "target/ inside, it also shows the remaining error.",
)
@click.option(
    "-o", "--output", type=shell.PATH, metavar="FILE.jsonl", help="Append records to this file."
)
@click.option(
    "--cache", type=shell.PATH, metavar="DIR", help="Folder for exported models and engines."
)
@click.option(
    "--tiles",
    is_flag=True,
    help="Measure the effect of tiles; pass a BUNDLE and photographs.",
)
@click.option("--tile", "tile_sizes", multiple=True, type=int, metavar="N", help="With --tiles.")
@click.option("--overlap", "overlaps", multiple=True, type=int, metavar="N", help="With --tiles.")
@click.option(
    "--sigma",
    type=click.FloatRange(min=0),
    help="With --tiles: noise, in levels of 255.  [default: 25]",
)
@click.option(
    "--rewrites",
    is_flag=True,
    help="Count an engine's memory traffic with each exact rewrite; pass one BUNDLE and one "
    "--size.",
)
@click.option(
    "--overhead", is_flag=True, help="Measure the overhead of a Restorer over the network."
)
@click.option(
    "--soak",
    "calls",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --overhead: calls for watching memory; 0 for none.  [default: 1000]",
)
@click.option(
    "--recommend",
    is_flag=True,
    help="Measure all installed backends and recommend options; pass one BUNDLE and one --size.",
)
@click.option(
    "--lanes",
    is_flag=True,
    help="Measure the gain of lanes for a folder, alone and beside a busy process.",
)
@click.option(
    "--count",
    "pictures_of_folder",
    type=click.IntRange(min=8),
    metavar="N",
    help="With --lanes: pictures in the folder.  [default: 20]",
)
@click.option("--render", is_flag=True, help="Show files of records without measuring.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per record.")
@shell.common_options
def bench(
    bundles: tuple[Path, ...],
    suites: tuple[Path, ...],
    plan_name: str | None,
    baseline: Path | None,
    layers: bool,
    report: Path | None,
    parity: Path | None,
    pictures: Path | None,
    output: Path | None,
    cache: Path | None,
    render: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the networks in BUNDLE..., or the models of a --suite.

    Every subject runs in its own process, and all take turns, so a slow phase of the machine
    affects all. The command prints Markdown tables and appends a record per subject, size and batch
    to --output at once. If a subject fails, its record has the reason, the others go on, and the
    exit code is 1.

    With --baseline the exit code is 1 if a subject became slower by more than 5 % and beyond the
    noise. The baseline must come from the same machine. The exit code is also 1 without a verdict:
    with fewer than 6 rounds, or if the host has moved a virtual machine's processors.

    With --layers, a table from the runtime's profiler follows for each bundle, backend, precision
    and size; with --json, a line {"profile": ...}.

    --tiles takes a BUNDLE that removes noise, and photographs. It compares tiles with the whole
    image, in a row per --tile and --overlap. --overhead measures the time of a Restorer's call over
    its backend, the effect of threads, and the memory of a --soak of calls, on the CPU. It takes
    one --size, --rounds and --threads. --rewrites has a row for each deployment form, and for the
    GPU's form without each of its own rewrites. A row shows layers, traffic and activations of the
    engine, and the time on this CPU. It takes minutes. With --json each prints lines {"tiles":
    ...}, {"overhead": ...} or {"rewrites": ...}.

    --recommend has a row for each working backend, precision, number of threads and number of lanes
    (pictures at a time). It names the fastest options for one picture and for many, with the times
    of a photograph of 12 megapixels and of a minute of 1080p video. maxim-run --plan uses these
    measurements. --lanes restores a folder in turns with one lane and with the chosen number of
    lanes.

    --render takes files of records and shows, compares or reports them again.
    """
    _check_study()
    studies = [name for name in _STUDIES if options.pop(name)]
    if studies:
        from maxim_deploy.cli import _bench_studies

        getattr(_bench_studies, f"study_{studies[0]}")(bundles, options, as_json=as_json)
        return
    options = {key: value for key, value in options.items() if key not in _STUDY_ONLY}
    wanted = _Wanted(baseline, report, parity, pictures, output, layers, as_json)
    wanted.check(has_bundles=bool(bundles), render=render)
    from maxim_deploy.cli import _bench_report

    extras: dict[str, Any] = {"parity": _bench_report.parity_lines(parity)} if parity else {}
    if render:
        _render(bundles, wanted, extras)
        return
    for module in ("onnx", "psutil"):
        require(module, "bench")
    from maxim_deploy.cli._bench_runs import runs_asked_for
    from maxim_deploy.machine.facts import environment

    here = environment()
    runs = runs_asked_for(bundles, suites, plan_name, cache, options, here)
    _measure(bundles, runs, here, wanted, extras)


@dataclass(frozen=True)
class _Wanted:
    """Options for the use of records."""

    baseline: Path | None
    report: Path | None
    parity: Path | None
    pictures: Path | None
    output: Path | None
    layers: bool
    as_json: bool

    def check(self, *, has_bundles: bool, render: bool) -> None:
        """Raise UsageError for options that exclude each other."""
        if self.report is None and (self.parity or self.pictures):
            raise UsageError("--parity and --pictures are for a report: name it with --report")
        if self.pictures and (render or not has_bundles):
            raise UsageError("--pictures needs a BUNDLE to restore them with")
        if render and self.layers:
            raise UsageError("--layers measures, but --render does not: choose one of them")


def _measure(
    bundles: tuple[Path, ...],
    runs: list[SuiteRun],
    environment: dict[str, Any],
    wanted: _Wanted,
    extras: dict[str, Any],
) -> None:
    """Measure, show and record. `environment` applies to all records."""
    from maxim_deploy.benchmarks.noise import busy
    from maxim_deploy.benchmarks.records import append_records
    from maxim_deploy.cli import _bench_report

    earlier = _earlier(wanted.baseline, environment) if wanted.baseline else []
    # Fail now rather than after half an hour.
    if wanted.output:
        append_records(wanted.output, [])
    if wanted.report:
        _bench_report.check_writable(wanted.report)
    if wanted.pictures:
        _bench_report.check_pictures(wanted.pictures)
    environment["busy"] = busy()
    records = _records(runs, wanted)
    failed = any(record.failures for record in records)
    if wanted.layers:
        extras["profiles"] = _profiles(runs, wanted.as_json)
        failed |= not extras["profiles"]
    if wanted.pictures:
        extras["pictures"] = _bench_report.restored_pictures(wanted.pictures, bundles[0])
    _finish(records, earlier, wanted.report, extras, failed=failed)


def _records(runs: list[SuiteRun], wanted: _Wanted) -> list[Record]:
    """Measure all records. Each group is stored and shown once complete."""
    from maxim_deploy.benchmarks.records import append_records, line_of
    from maxim_deploy.benchmarks.tables import table_of

    records: list[Record] = []
    for group in (group for run in runs for group in run.records()):
        records += group
        if wanted.output:
            append_records(wanted.output, group)
        for record in group:
            for reason in record.failures:
                shell.complain(f"failed: {record.model} {record.label} | {reason}")
            if wanted.as_json:
                shell.emit(line_of(record))
    if not wanted.as_json:
        shell.emit(table_of(records))
    return records


def _check_study() -> None:
    """Raise an error for options that exclude a study such as `--tiles`, or that need one.

    Raises:
        UsageError: the message names both options.
    """
    context = click.get_current_context()
    shared = {"verbose", "version", "bundles", "as_json"}
    given = {
        str(one.name): one.opts[0]
        for one in context.command.params
        if one.name not in shared
        and context.get_parameter_source(str(one.name)) is ParameterSource.COMMANDLINE
    }
    study = next((name for name in _STUDIES if name in given), None)
    for name, option in given.items():
        if study and name not in (study, *_STUDIES[study]):
            raise UsageError(f"{option} does not go with --{study}")
        owner = _STUDY_ONLY.get(name)
        if owner and study is None:
            raise UsageError(f"{option} belongs to --{owner}, which was not given")


def _profiles(runs: list[SuiteRun], as_json: bool) -> list[LayerProfile]:
    """Measure profiles, and show each at once."""
    from maxim_deploy.benchmarks.profile.tables import text_of_profile

    profiles = []
    for profile in (profile for run in runs for profile in run.profiles()):
        profiles.append(profile)
        line = json.dumps({"profile": profile.to_json()})
        shell.emit(line if as_json else f"\n{text_of_profile(profile)}")
    return profiles


def _render(files: tuple[Path, ...], wanted: _Wanted, extras: dict[str, Any]) -> None:
    from maxim_deploy.benchmarks.records import line_of, read_records
    from maxim_deploy.benchmarks.tables import results_of

    if not files:
        raise UsageError("name files of records: maxim-bench --render FILE.jsonl...")
    records = [record for file in files for record in read_records(file)]
    if not records:
        raise UsageError(f"there is no record in {', '.join(map(str, files))}")
    if wanted.as_json:
        for record in records:
            shell.emit(line_of(record))
    else:
        shell.emit(results_of(files))
    here = records[-1].environment
    earlier = _earlier(wanted.baseline, here) if wanted.baseline else []
    _finish(records, earlier, wanted.report, extras)


def _earlier(baseline: Path, environment: dict[str, Any]) -> list[Record]:
    from maxim_deploy.benchmarks.records import read_records
    from maxim_deploy.benchmarks.regression import same_machine

    return same_machine(read_records(baseline), environment)


def _finish(
    records: list[Record],
    earlier: list[Record],
    report: Path | None,
    extras: dict[str, Any],
    *,
    failed: bool = False,
) -> None:
    """Compare with the baseline, write the report, and set the exit code."""
    try:
        failed |= bool(earlier) and not _holds(records, earlier)
    finally:
        if report:
            from maxim_deploy.benchmarks.report import write_report

            write_report(records, report, **extras)
            shell.say(f"report: {report}")
    if failed:
        raise click.exceptions.Exit(1)


def _holds(records: list[Record], earlier: list[Record]) -> bool:
    """Report changes. Returns whether all were compared and none is slower."""
    from maxim_deploy.benchmarks.regression import changes, lost

    found, fail_now = changes(records, earlier), lost(records, earlier)
    for change in found:
        shell.say(str(change))
    for record in fail_now:
        shell.complain(f"not compared: {record.model} {record.label} | {record.error}")
    if left := sum(not change.comparable for change in found):
        shell.say(f"no verdict on {left} of {len(found)}: run it again")
    return not (fail_now or left or any(change.verdict == "slower" for change in found))
