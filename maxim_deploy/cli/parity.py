"""`maxim-parity`: is the picture still the same after each step, and how good is it?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy.cli import shell
from maxim_deploy.errors import UsageError

if TYPE_CHECKING:
    from maxim_deploy.parity.arrows import Arrow, Judged, Options
    from maxim_deploy.parity.pictures import Sample

PRECISIONS = ("fp32", "fp16", "bf16")


class _Size(click.ParamType[tuple[int, int]]):
    """`HxW`, both from 1."""

    name = "HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Height and width."""
        sides = str(value).lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
            self.fail(f"{value!r} is no size; write HxW, such as 256x256", param, ctx)
        return int(sides[0]), int(sides[1])


@click.command("maxim-parity")
@click.argument("stages", metavar="A [B]", nargs=-1)
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="DIR", help="Compare on these pictures."
)
@click.option(
    "--size", type=_Size(), help="Cut pictures to it.  [default: 256x256 for the built-in ones]"
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Of bundles without a stage, and of backends; the low precision of a whole line.",
)
@click.option("--threshold", metavar="NAME", help="Hold everything against this one.")
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "truncate"]),
    help="How results become 8 bits, to be compared byte for byte with a folder of pictures.",
)
@click.option(
    "--maps", type=click.Path(path_type=Path), metavar="DIR", help="Write error maps as PNG."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per comparison on stdout.")
@shell.common_options
def parity(
    stages: tuple[str, ...],
    images: Path | None,
    size: tuple[int, int] | None,
    precision: str | None,
    threshold: str | None,
    rounding: Any,
    maps: Path | None,
    as_json: bool,
) -> None:
    """Compare the pictures of stage A with those of stage B, or a bundle's whole line.

    \b
    A stage is    BUNDLE:literal      PyTorch, the network as published
                  BUNDLE:deployment   PyTorch, the deployment form
                  BUNDLE:fp32         ONNX Runtime on a graph: also fp16, bf16, fp32.image
                  BUNDLE:fp16.twin    the same, every stored tensor rounded; also bf16.twin
                  BUNDLE:tensorrt     the runtime with a backend; also tensorrt.fp16, ...
                  WEIGHTS:literal     a file of weights; also WEIGHTS:deployment
                  GRAPH.onnx          a graph by itself; also GRAPH.onnx:twin
                  STORED.npz          stored inputs and outputs
                  FOLDER              8-bit pictures, matched by name

    A bundle alone is compared along its whole line, from the literal network to its last graph.

    Every comparison is held against a threshold, by the lower precision of the two. The exit code
    is 1 if one is exceeded, or a picture could not be compared.
    """  # noqa: D301  # \b keeps click from filling the table
    from maxim_deploy.parity.arrows import Options
    from maxim_deploy.parity.thresholds import threshold_named

    options = Options(precision, threshold_named(threshold) if threshold else None, rounding, maps)
    arrows = _arrows(stages, precision)
    samples = _samples(arrows, images, size)
    if maps:
        maps.mkdir(parents=True, exist_ok=True)
    if not _compare(arrows, samples, options, as_json):
        raise click.exceptions.Exit(1)


def _arrows(stages: Sequence[str], precision: str | None) -> list[Arrow]:
    from maxim_deploy.parity.arrows import Arrow, line_of
    from maxim_deploy.parity.stages import split_name
    from maxim_deploy.spec.manifest import Bundle

    if len(stages) == 2:
        return [Arrow(*stages)]
    if len(stages) != 1:
        raise UsageError("name two stages to compare, or one bundle; see --help")
    path, stage = split_name(stages[0])
    if stage:
        raise UsageError(f"name a stage to compare {stages[0]!r} with, or a bundle alone")
    return line_of(Bundle.open(path), str(path), [precision] if precision else PRECISIONS[1:])


def _samples(
    arrows: Sequence[Arrow], images: Path | None, size: tuple[int, int] | None
) -> list[Sample]:
    from maxim_deploy.parity.arrows import samples_of
    from maxim_deploy.parity.pictures import own_samples, samples_in

    if images:
        return list(samples_in(images, size))
    stored = [sample for arrow in arrows for sample in samples_of(arrow)]
    if stored and size:
        raise UsageError("--size does not go with stored results; they have a size")
    return stored or own_samples(size)


def _compare(
    arrows: Sequence[Arrow], samples: list[Sample], options: Options, as_json: bool
) -> bool:
    """Compare, and show each result as it comes; whether all passed."""
    from maxim_deploy.benchmarks.environment import environment
    from maxim_deploy.parity.arrows import judge

    machine = environment() if as_json else None
    all_passed, last = True, None
    with shell.report_progress() as say:
        for judged in judge(arrows, samples, options, say):
            all_passed = all_passed and judged.passed
            if as_json:
                shell.emit(json.dumps({**judged.to_json(), "environment": machine}))
                continue
            if judged.arrow != last:
                shell.emit(f"{judged.arrow.a} against {judged.arrow.b}")
                shell.emit(_row(_HEAD))
            last = judged.arrow
            for line in _lines(judged):
                shell.emit(line)
    return all_passed


_HEAD = ("picture", "max", "mean", "99.9 %", "residual", "PSNR dB", "SSIM", "worst at", "verdict")


def _lines(judged: Judged) -> Iterable[str]:
    found = judged.comparison
    if found is not None and judged.threshold is not None:
        residual = found.residual_error
        yield _row(
            (
                judged.image,
                *(
                    f"{levels:.3g}"
                    for levels in (
                        found.max_error_levels,
                        found.mean_error_levels,
                        found.p999_error_levels,
                    )
                ),
                "" if residual is None else f"{residual:.2g}",
                f"{found.psnr:.1f}",
                "" if found.ssim is None else f"{found.ssim:.6f}",
                f"{found.worst.row},{found.worst.column}",
                f"{judged.threshold.name}: {'passed' if judged.passed else 'FAILED'}",
            )
        )
    else:
        yield f"  {judged.image}: not compared"
    for fault in judged.faults:
        yield f"    {fault}"


def _row(cells: Sequence[str]) -> str:
    name, *numbers, verdict = cells
    return f"  {name:<20}{''.join(f'{number:>10}' for number in numbers)}  {verdict}"
