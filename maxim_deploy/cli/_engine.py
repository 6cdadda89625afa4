"""Engines in `maxim-export`: options, and builds with a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy._progress import Progress
from maxim_deploy.cli import shell
from maxim_deploy.cli._ending import complain_of_interruption
from maxim_deploy.cli._signals import exit_code_of
from maxim_deploy.errors import UsageError
from maxim_deploy.spec.engine_settings import (
    EngineSettings,
    engine_settings_from,
    read_engine_recipe,
)
from maxim_deploy.spec.precision import GPU_PRECISIONS
from maxim_deploy.spec.quantities import readable_bytes, seconds_from

if TYPE_CHECKING:
    from maxim_deploy.engines.build_monitor import BuildStep
    from maxim_deploy.engines.engine_file import BuildOptions
    from maxim_deploy.spec.engines import EngineEntry

_OPTIONS = (
    click.option(
        "--engine",
        "library",
        metavar="LIBRARY",
        help="Also build an engine: tensorrt or tensorrt-rtx.",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="SPEC",
        help="Sizes of the engine: 720p, 1080p, 4k, photo, tile512, HxW or MIN:OPT:MAX, "
        "optionally followed by @BATCH. Repeat for several in one engine.",
    ),
    click.option(
        "--target",
        "targets",
        metavar="LIST",
        help="Compute capabilities to build for, such as 8.6,8.9; tensorrt-rtx only.  "
        "[default: every GPU from 8.0 on]",
    ),
    click.option("--optimization-level", type=int, help="0 (fast build) to 5.  [default: 3]"),
    click.option(
        "--aux-streams",
        type=int,
        help="Further streams for independent layers; they take more memory.  [default: 0]",
    ),
    click.option("--workspace", metavar="SIZE", help="Scratch memory of one layer, such as 4GiB."),
    click.option(
        "--strip-weights",
        is_flag=True,
        default=None,
        help="Omit the weights from the engine; it is refitted from the bundle.",
    ),
    click.option("--tf32", is_flag=True, default=None, help="Let float32 products round to TF32."),
    click.option(
        "--hardware-compatibility",
        metavar="LEVEL",
        help="none, same-compute-capability or ampere-plus; tensorrt only.",
    ),
    click.option(
        "--version-compatible",
        is_flag=True,
        default=None,
        help="Build an engine that later versions can load; tensorrt only.",
    ),
    click.option(
        "--profiling-verbosity",
        metavar="LEVEL",
        help="Information about layers in the engine: none, names, detailed.  [default: detailed]",
    ),
    click.option(
        "--timing-cache",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Keep the builder's measurements for later builds; tensorrt only.",
    ),
    click.option("--budget", metavar="TIME", help="Time limit of the build, such as 5m."),
    click.option(
        "--traffic",
        is_flag=True,
        default=None,
        help="Count the memory traffic of layers at each profile's tuned size. It needs another "
        "build per profile, unless the engine has one size only.",
    ),
)

_NOT_SETTINGS = ("timing_cache", "budget", "traffic")


def split_list(text: str) -> tuple[str, ...]:
    """The non-empty parts between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an engine to a command, as keywords."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def engine_settings(
    options: dict[str, Any],
    recipes: tuple[Path, ...],
    precision: tuple[str, ...] | None,
    io: tuple[str, ...] | None,
) -> EngineSettings | None:
    """The requested engine, or None.

    Args:
        options: options of `engine_options`.
        recipes: files that may have a table `[engine]`. Later files override earlier ones, and
            options override all.
        precision: precisions of the command line, the best for a GPU first.
        io: I/O forms of the command line, image first.

    Raises:
        UsageError: an option is wrong, or was given without --engine.
    """
    asked: dict[str, Any] = {}
    for recipe in recipes:
        asked |= read_engine_recipe(recipe)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    asked |= {name: value for name, value in given.items() if name not in _NOT_SETTINGS}
    if "targets" in given:
        asked["targets"] = split_list(given["targets"])
    for name, listed in (("precision", precision), ("io", io)):
        if listed:
            best = {"precision": GPU_PRECISIONS[0], "io": "image"}[name]
            asked[name] = best if best in listed else listed[0]
    if "library" in asked:
        return engine_settings_from(asked)
    if given:
        names = ", ".join(f"--{_OPTION_NAMES.get(name, name)}".replace("_", "-") for name in given)
        raise UsageError(f"{names}: only for an engine; name its library with --engine")
    return None


_OPTION_NAMES = {"profiles": "profile", "targets": "target"}


def check_build(settings: EngineSettings, options: dict[str, Any]) -> None:
    """Check a build before the bundle exists. Raises as the build does."""
    from maxim_deploy.engines.store import check_buildable

    check_buildable(settings, _build_options(options))


def build(folder: Path, settings: EngineSettings, options: dict[str, Any]) -> None:
    """Build the engine into a bundle and print it.

    Ctrl-C ends the process at once: the library may take minutes to end its build, and the
    interpreter's exit would wait for it. Nothing incomplete is left in the bundle.
    """
    from maxim_deploy.engines.store import add_engine

    asked = _build_options(options)
    try:
        with _builder_progress() as (progress, step_progress):
            asked = replace(asked, progress=progress, step_progress=step_progress)
            entry, is_new = add_engine(folder, settings, asked)
    except KeyboardInterrupt as error:
        complain_of_interruption(error)
        os._exit(exit_code_of(error))
    shell.say(_summary(entry, is_new))


def _build_options(options: dict[str, Any]) -> BuildOptions:
    from maxim_deploy.engines.engine_file import BuildOptions

    budget = options["budget"]
    seconds = None if budget is None else seconds_from(budget, "--budget")
    return BuildOptions(seconds, options["timing_cache"], bool(options["traffic"]))


@contextmanager
def _builder_progress() -> Iterator[tuple[Progress, Callable[[BuildStep], None]]]:
    """Show messages, and on a terminal a bar of the builder's phases."""
    if shell.is_quiet() or not sys.stderr.isatty():
        yield shell.say, lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True, soft_wrap=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(step: BuildStep) -> None:
            innermost = step.phases[-1]
            bar.update(task, description=innermost, completed=step.done, total=step.total)

        yield shell.say, tell


def _summary(entry: EngineEntry, is_new: bool) -> str:
    took = f"built in {entry.built.build_seconds:.0f} s"
    done = took if is_new else "up to date, nothing to build"
    memory = entry.memory.get("activation_bytes")
    activations = f", {readable_bytes(memory)} of activations at the largest size" if memory else ""
    return (
        f"{entry.file}: {done}, {readable_bytes(entry.bytes)}{activations}, for compute capability "
        f"{', '.join(entry.targets)}"
    )
