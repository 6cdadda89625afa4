"""`maxim-parity --bisect`: search a decision table that keeps a budget with few float32 nodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy.cli import shell
from maxim_deploy.errors import MaximDeployError, UsageError, quoted
from maxim_deploy.spec.precision import LOW

if TYPE_CHECKING:
    from maxim_deploy.parity.bisect_bundle import BisectReport


def bisect(
    stages: Sequence[str],
    images: Path | None,
    *,
    budget: str | None,
    precision: str | None,
    size: tuple[int, int] | None,
    output: Path | None,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Search, write the table, and report its accuracy and cost.

    Args:
        stages: one bundle.
        images: folder of pictures.
        budget: least PSNR, such as "60dB"; None for the gate of an export in this precision.
        precision: a low one; None for the first.
        size: size of the centre of each photograph to use; None for 256x256.
        output: JSON file for the table; without it the table is printed.
        cache: folder of trials; None for the user's cache.
        as_json: print one JSON object.
    """
    from maxim_deploy._files import write_text
    from maxim_deploy.parity.bisect_bundle import DEFAULT_SIZE, bisect_bundle
    from maxim_deploy.parity.pictures import samples_in
    from maxim_deploy.spec.bundle import Bundle
    from maxim_deploy.spec.quantities import decibels_from

    if len(stages) != 1:
        raise UsageError("--bisect takes one bundle; see --help")
    if images is None:
        raise UsageError("--bisect needs the pictures that matter to you: pass --images DIR")
    precision = precision or next(iter(LOW))
    if precision not in LOW:
        raise UsageError(f"--bisect searches in {' or '.join(LOW)}, not in {precision}")
    gate = LOW[precision].gate
    wanted = gate if budget is None else decibels_from(budget, "--budget")
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"table {quoted(output)} | there is no folder {quoted(output.parent)}")
    size = size or DEFAULT_SIZE
    report = bisect_bundle(
        Bundle.open(stages[0]),
        precision,
        {sample.name: sample.pixels for sample in samples_in(images, size)},
        wanted,
        size=size,
        cache=cache,
        progress=_progress(),
    )
    if output is not None:
        try:
            write_text(output, report.table.to_json(report.decided))
        except OSError as error:
            raise MaximDeployError(
                f"table {quoted(output)} | cannot be written: {error}"
            ) from error
    shell.emit(json.dumps(report.to_json()) if as_json else summary(report, output))
    if wanted < gate:
        shell.say(
            f"an export in {precision} needs {gate:g} dB on its own photograph: "
            "with this table it may be refused, unless with --no-verify"
        )


def _progress() -> Callable[[str, float, bool], None]:
    count = 0

    def progress(what: str, psnr: float, from_cache: bool) -> None:
        nonlocal count
        count += 1
        found = f"{psnr:7.2f} dB" if psnr > -float("inf") else "not finite"
        shell.say(f"trial {count}: {found}  {what}{'  (from the cache)' if from_cache else ''}")

    return progress


def summary(report: BisectReport, output: Path | None) -> str:
    """A summary as text."""
    from maxim_deploy.graph.precision.report import table_text

    before, after = report.before, report.after
    rows = [
        ("", "before", "after"),
        *(
            (f"dB, {name}", f"{before.psnr[name]:.2f}", f"{after.psnr[name]:.2f}")
            for name in after.psnr
        ),
        ("float32 nodes", f"{before.float32_nodes}", f"{after.float32_nodes}"),
        ("casts", f"{before.casts}", f"{after.casts}"),
        ("bytes per pixel", f"{before.bytes_per_pixel:.0f}", f"{after.bytes_per_pixel:.0f}"),
    ]
    costs = [
        f"  {cost.bytes_per_pixel:+8.1f} bytes per pixel, {cost.nodes} nodes: {cost.pattern}"
        for cost in report.decisions
    ]
    lines = [
        f"{report.precision} within {report.budget:g} dB of float32 on {len(after.psnr)} pictures "
        f"of {report.size[0]}x{report.size[1]}, {report.judge}",
        "",
        *(f"{name:<28}{old:>10}{new:>10}" for name, old, new in rows),
        "",
        "what each float32 decision costs:",
        *(costs or ["  there is none"]),
        f"{report.kept} islands are always kept: sums over positions, values near the type's limit",
        "",
        f"{report.trials} graphs run, {report.trials_from_cache} from the cache, "
        f"{report.seconds:.0f} s",
        str(output) if output else f"\n{table_text(report.table, report.decided)}",
    ]
    return "\n".join(lines).rstrip()
