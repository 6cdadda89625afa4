"""Options of `maxim-run` that let a Ray cluster restore the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy.errors import UsageError

if TYPE_CHECKING:
    from maxim_deploy.serving.ray_workers import RayWorkers


def ray_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--ray`, `--workers` and `--gpus-per-worker`."""
    address = click.option(
        "--ray",
        metavar="auto|local|ADDRESS",
        help="Let the workers of a Ray cluster restore the files. auto: this machine's cluster; "
        "local: this machine alone; ADDRESS: the cluster at HOST:PORT.",
    )
    workers = click.option(
        "--workers",
        callback=_workers,
        metavar="N|MIN:MAX",
        help="With --ray: most workers; the run begins once MIN of them are ready.  [default: as "
        "many as fit]",
    )
    gpus = click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0, max=1),
        help="With --ray: 1, or a fraction for several workers per GPU.  [default: 0]",
    )
    return address(workers(gpus(command)))


def _workers(_ctx: click.Context, _param: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    least, colon, most = text.partition(":")
    numbers = [least, most] if colon else [least]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise click.BadParameter(f"{text!r} | expected N or MIN:MAX, such as 8 or 2:16")
    if not colon:
        return int(least)
    if int(least) > int(most):
        raise click.BadParameter(f"{text!r} | MIN is more than MAX")
    return int(least), int(most)


def ray_workers_of(
    bundle: Path,
    load_options: dict[str, Any],
    address: str,
    workers: int | tuple[int, int] | None,
    gpus_per_worker: float | None,
) -> RayWorkers:
    """The workers that restore the files in place of this process.

    Raises:
        UsageError: an option is wrong, or excludes `--ray`.
        MissingDependencyError: Ray is not installed.
    """
    for name, advice in (
        ("lanes", "pass --workers"),
        ("device", "Ray chooses the GPU of each worker"),
    ):
        if name in load_options:
            raise UsageError(f"--{name} | does not go together with --ray | {advice}")
    from maxim_deploy.serving.ray_workers import RayWorkers

    return RayWorkers(
        bundle,
        address=address,
        workers=workers,
        gpus_per_worker=gpus_per_worker or 0.0,
        **load_options,
    )


def check_ray_options(address: str | None, others: Mapping[str, object]) -> None:
    """Refuse options that exclude each other.

    Args:
        address: the value of `--ray`, or None.
        others: values of other options by name: options of `--ray`, and options that exclude it.

    Raises:
        UsageError: an option needs `--ray`, or excludes it.
    """
    for name, value in others.items():
        if value in (None, False):
            continue
        if address is None and name in _OF_RAY:
            raise UsageError(f"{name} | is an option of --ray | pass --ray auto as well")
        if address is not None and name in _NOT_WITH_RAY:
            raise UsageError(f"{name} | does not go together with --ray | {_NOT_WITH_RAY[name]}")


_OF_RAY = ("--workers", "--gpus-per-worker")
_NOT_WITH_RAY = {
    "--shard": "Ray shares the files out by itself; omit one of the two",
    "--plan": "omit --ray to see how this machine would run the files",
    "--status": "omit --ray; --status reads the records only",
}
