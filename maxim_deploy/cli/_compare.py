"""`maxim-parity A B`: run comparisons and show them as a table or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy.cli import shell
from maxim_deploy.machine.facts import environment

if TYPE_CHECKING:
    from maxim_deploy.parity.arrows import Arrow, Judged, Options
    from maxim_deploy.parity.locating import Located
    from maxim_deploy.parity.pictures import Sample

_HEAD = ("picture", "max", "mean", "99.9 %", "residual", "PSNR dB", "SSIM", "worst at", "verdict")


def compare_all(
    arrows: Sequence[Arrow], samples: list[Sample], options: Options, *, as_json: bool
) -> bool:
    """Compare, and show each result at once. Returns whether all passed."""
    from maxim_deploy.parity.arrows import judge

    machine = environment() if as_json else None
    all_passed, last = True, None
    with shell.report_progress() as progress:
        for judged in judge(arrows, samples, options, progress):
            all_passed = all_passed and judged.passed
            if as_json:
                shell.emit(json.dumps({**judged.to_json(), "environment": machine}))
                continue
            if judged.arrow != last:
                shell.emit(f"{judged.arrow.a} against {judged.arrow.b}, errors in 8-bit steps")
                shell.emit(_row(_HEAD))
            last = judged.arrow
            for line in _lines(judged):
                shell.emit(line)
    return all_passed


def locate_all(
    arrows: Iterable[Arrow],
    sample: Sample,
    precision: str | None,
    maps: Path | None,
    *,
    as_json: bool,
) -> bool:
    """Find the first tensor of each comparison that departs. Returns whether none does."""
    from maxim_deploy.parity.arrows import file_stem
    from maxim_deploy.parity.locating import locate

    machine = environment() if as_json else None
    all_passed = True
    with shell.report_progress() as progress:
        for arrow in arrows:
            progress(f"walking {' '.join(arrow.a.split(':'))}")
            located = locate(arrow.a, arrow.b, sample, precision)
            all_passed = all_passed and located.first is None
            if maps:
                from maxim_deploy.parity.plots import plot_growth

                plot_growth(located, maps / f"{file_stem(arrow)}.growth.png")
            if as_json:
                shell.emit(json.dumps({**located.to_json(), "environment": machine}))
            else:
                shell.emit(_sentence(located))
    return all_passed


def _sentence(located: Located) -> str:
    first, before = located.first, located.last_agreeing
    ends = f"{located.a} against {located.b}: {len(located.points)} tensors"
    if first is None:
        worst = max(located.points, key=lambda point: point.error / point.allowed)
        return f"{ends}, all agree; nearest to the limit: {worst}, {worst.error:.2g}"
    return (
        f"{ends}, the first that departs: {first}, error {first.error:.2g} where rounding "
        f"explains {first.allowed:.2g}; the last before it that agrees: "
        f"{before or 'none'}"
    )


def _lines(judged: Judged) -> Iterator[str]:
    found = judged.comparison
    if found is None or judged.threshold is None:
        yield f"  {judged.image or 'every picture'}: not compared"
    else:
        levels = (found.max_error_levels, found.mean_error_levels, found.p999_error_levels)
        residual = found.residual_error
        yield _row(
            (
                judged.image,
                *(f"{value:.3g}" for value in levels),
                "" if residual is None else f"{residual:.2g}",
                f"{found.psnr:.1f}",
                "" if found.ssim is None else f"{found.ssim:.6f}",
                f"{found.worst.row},{found.worst.column}",
                f"{judged.threshold.name}: {'passed' if judged.passed else 'FAILED'}",
            )
        )
    for fault in judged.faults:
        yield f"    {fault}"


def _row(cells: Sequence[str]) -> str:
    name, *numbers, verdict = cells
    return f"  {name:<20}{''.join(f'{number:>10}' for number in numbers)}  {verdict}"
