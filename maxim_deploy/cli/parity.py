"""`maxim-parity`: compare stages of the pipeline, and measure quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy.cli import shell
from maxim_deploy.cli._values import Size
from maxim_deploy.errors import UsageError, quoted
from maxim_deploy.spec.precision import LOW, PRECISIONS

if TYPE_CHECKING:
    from maxim_deploy.parity.arrows import Arrow
    from maxim_deploy.parity.pictures import Sample

LOCATE_SIZE = (64, 64)
"""The smallest size of the network, because all tensors are held in memory."""


_ONLY_WITH = {"bisect": ("budget", "output", "cache"), "dataset": ("metric", "channel", "resume")}
_NOT_WITH = {
    "bisect": ("threshold", "rounding", "maps", "locate", "dataset", "backend", "ensemble")
    + _ONLY_WITH["dataset"],
    "dataset": ("images", "size", "locate", "threshold", "maps"),
    "locate": ("threshold", "rounding", "ensemble"),
}
"""Uses of the command, with options that belong to one use only, and options without effect in
it."""


@click.command("maxim-parity")
@click.argument("stages", metavar="A [B]", nargs=-1)
@click.option(
    "--images", type=shell.PATH, metavar="DIR", help="Compare on the pictures of this folder."
)
@click.option(
    "--size",
    type=Size(),
    help="Crop pictures to this size.  [default: 256x256 for the built-in ones]",
)
@click.option(
    "--precision",
    type=click.Choice(tuple(PRECISIONS)),
    help="Precision of backends and of bundles without a stage; low precision of a whole line.",
)
@click.option("--threshold", metavar="NAME", help="Use this threshold for all comparisons.")
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "truncate"]),
    help="Rounding of results to 8 bits, for a comparison with a folder byte for byte.",
)
@click.option("--maps", type=shell.PATH, metavar="DIR", help="Write error maps as PNG.")
@click.option("--locate", is_flag=True, help="Find the first inner tensor that departs, at 64x64.")
@click.option(
    "--dataset",
    type=shell.PATH,
    metavar="DIR",
    help="Measure stage A on the pairs of DIR/input and DIR/target.",
)
@click.option(
    "--metric",
    type=click.Choice(["reference", "paper", "both"]),
    help="With --dataset: as the authors' script prints it, as papers do.  [default: both; "
    "paper for a network that gives 8 bits]",
)
@click.option(
    "--channel",
    type=click.Choice(["rgb", "y"]),
    help="With --dataset: channels of the paper's metrics.  [default: y for deraining, else rgb]",
)
@click.option("--backend", metavar="NAME", help="Run bundles without a stage with this backend.")
@click.option(
    "--ensemble", "self_ensemble", is_flag=True, help="Average over eight rotations and flips."
)
@click.option(
    "--resume",
    type=shell.PATH,
    metavar="FILE",
    help="With --dataset: record results in FILE and resume from it.",
)
@click.option(
    "--bisect",
    "bisecting",
    is_flag=True,
    help="Search float32 islands that keep a budget on --images, starting from the bundle's "
    "table. The result is a table for maxim-export --precision-table.",
)
@click.option(
    "--budget",
    metavar="DB",
    help="With --bisect: least PSNR against the float32 graph, such as 60dB.  [default: the gate "
    "of an export]",
)
@click.option(
    "-o",
    "--output",
    type=shell.PATH,
    metavar="TABLE.json",
    help="With --bisect: write the table to this file.  [default: print it]",
)
@click.option(
    "--cache",
    type=shell.PATH,
    metavar="DIR",
    help="With --bisect: folder of trials, for resuming an interrupted search.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line per comparison.")
@shell.common_options
def parity(
    stages: tuple[str, ...],
    images: Path | None,
    size: tuple[int, int] | None,
    precision: str | None,
    threshold: str | None,
    rounding: Any,
    maps: Path | None,
    locate: bool,
    dataset: Path | None,
    metric: str | None,
    channel: str | None,
    backend: str | None,
    self_ensemble: bool,
    resume: Path | None,
    bisecting: bool,
    as_json: bool,
    **search: Any,
) -> None:
    """Compare the pictures of stage A with those of stage B, or a bundle's whole line.

    \b
    A stage is    BUNDLE:literal         PyTorch, the network as published
                  BUNDLE:deployment      PyTorch, the deployment form
                  BUNDLE:fp32            ONNX Runtime on a graph; also fp16, fp32.image, ...
                  BUNDLE:fp16.simulated  the same in float32, every stored tensor rounded
                  BUNDLE:tensorrt        the runtime with a backend; also tensorrt.fp16, ...
                  WEIGHTS:literal        a file of weights; also WEIGHTS:deployment
                  GRAPH.onnx             a graph by itself; also GRAPH.onnx:simulated
                  STORED.npz             stored inputs and outputs
                  FOLDER                 8-bit pictures, matched by name

    A single bundle is compared along its whole line: from the literal network to its last graph and
        the backends that run here. Every comparison has a threshold, that of the lower precision. A
        folder's pictures count as truncated, as the published scripts save them, unless --rounding
        is given.

    With --bisect, search the nodes of a BUNDLE that must be float32.

    The exit code is 1 if a threshold is exceeded, or a picture could not be compared.
    """  # noqa: D301  # \b keeps click from filling the table
    _check_uses(click.get_current_context())
    if bisecting:
        from maxim_deploy.cli._bisect import bisect

        bisect(stages, images, precision=precision, size=size, as_json=as_json, **search)
        return
    stages = tuple(_with_backend(stage, backend, precision, dataset) for stage in stages)
    if dataset is not None:
        if len(stages) != 1:
            raise UsageError(f"--dataset measures one stage, not {len(stages)}")
        from maxim_deploy.cli._evaluate import evaluate

        evaluate(
            dataset,
            stages[0],
            precision=precision,
            metric=metric,
            channel=channel,
            rounding=rounding,
            self_ensemble=self_ensemble,
            resume=resume,
            as_json=as_json,
        )
        return

    from maxim_deploy.cli._compare import compare_all, locate_all
    from maxim_deploy.parity.arrows import Options, with_tensors
    from maxim_deploy.parity.thresholds import threshold_named

    limit = threshold_named(threshold) if threshold else None
    arrows = _arrows(stages, precision)
    if maps:
        try:
            maps.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--maps {quoted(maps)} | {error.strerror} | expected a folder to write, or to make"
            ) from error
    if locate:
        inside = arrows if len(stages) == 2 else with_tensors(arrows)
        sample = _samples([], images, size or LOCATE_SIZE)[0]
        passed = locate_all(inside, sample, precision, maps, as_json=as_json)
    else:
        options = Options(precision, limit, rounding, maps, self_ensemble)
        passed = compare_all(arrows, _samples(arrows, images, size), options, as_json=as_json)
    if not passed:
        raise click.exceptions.Exit(1)


def _check_uses(context: click.Context) -> None:
    """Raise an error for options without effect in the requested use."""
    options = {param.opts[-1].lstrip("-"): param.name for param in context.command.params}
    given = {option for option, name in options.items() if context.params.get(str(name))}
    for use, others in _NOT_WITH.items():
        if use in given and (wrong := [name for name in others if name in given]):
            raise UsageError(f"--{wrong[0]} does not go with --{use}")
    for use, own in _ONLY_WITH.items():
        if use not in given and (wrong := [name for name in own if name in given]):
            raise UsageError(f"--{wrong[0]} belongs to --{use}, which was not given")


def _with_backend(
    name: str, backend: str | None, precision: str | None, dataset: Path | None
) -> str:
    """The stage of a bundle without one: a backend if requested, and always for a data set."""
    from maxim_deploy.parity.stages import bundle_of, split_name

    if split_name(name)[1] or not (backend or dataset) or bundle_of(name) is None:
        return name
    return f"{name}:{backend or 'auto'}{f'.{precision}' if precision else ''}"


def _arrows(stages: Sequence[str], precision: str | None) -> list[Arrow]:
    from maxim_deploy.parity.arrows import Arrow, line_of
    from maxim_deploy.parity.stages import split_name
    from maxim_deploy.spec.bundle import Bundle

    if len(stages) == 2:
        return [Arrow(*stages)]
    if len(stages) != 1:
        raise UsageError("name two stages to compare, or one bundle; see --help")
    path, stage = split_name(stages[0])
    if stage:
        raise UsageError(f"name a stage to compare {stages[0]!r} with, or a bundle alone")
    return line_of(Bundle.open(path), str(path), [precision] if precision else LOW)


def _samples(
    arrows: Sequence[Arrow], images: Path | None, size: tuple[int, int] | None
) -> list[Sample]:
    from maxim_deploy.parity.arrows import samples_of
    from maxim_deploy.parity.pictures import own_samples, samples_in

    if images:
        return list(samples_in(images, size))
    stored = [sample for arrow in arrows for sample in samples_of(arrow)]
    if stored and size:
        raise UsageError("--size excludes stored results, which have a size; omit --size")
    return stored or own_samples(size)
