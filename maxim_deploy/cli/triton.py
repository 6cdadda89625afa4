"""`maxim-deploy triton`: write a model repository for NVIDIA Triton, or check a server with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from maxim_deploy.cli import shell
from maxim_deploy.cli._values import Size
from maxim_deploy.errors import UsageError
from maxim_deploy.spec.precision import PRECISIONS
from maxim_deploy.spec.quantities import bytes_from


def _instances(_ctx: click.Context, _param: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or not int(value):
        raise click.BadParameter(f"{value!r} | expected 'auto' or a number from 1")
    return int(value)


def _gpus(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    indices = value.split(",") if value else []
    if not all(index.isdecimal() for index in indices) or len(set(indices)) != len(indices):
        raise click.BadParameter(f"{value!r} | expected distinct indices of GPUs, such as 0,1")
    return tuple(map(int, indices))


@click.command("maxim-deploy triton")
@click.argument("bundle", type=shell.PATH)
@click.option(
    "-o", "--output", type=shell.PATH, metavar="REPOSITORY", help="Add the bundle to this folder."
)
@click.option(
    "--backend",
    type=click.Choice(["python", "onnxruntime", "tensorrt"]),
    default="python",
    show_default=True,
    help="Backend of Triton. python runs maxim-deploy in the server: any size, tiles, all engines.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the model in the repository.  [default: the bundle's]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", *PRECISIONS]),
    default="auto",
    help="Precision of the network.  [default: the best in the bundle for the device]",
)
@click.option(
    "--instances",
    callback=_instances,
    default="auto",
    metavar="auto|N",
    help="Processes on the CPU, or on each GPU; they share the machine.  [default: auto]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of each instance.  [default: its share of the processors]",
)
@click.option(
    "--max-memory",
    metavar="SIZE",
    help="Most memory of each instance, such as 4GiB.  [default: its share of the memory]",
)
@click.option("--gpus", callback=_gpus, metavar="0,1", help="Run on these GPUs, not on the CPU.")
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Requests in one execution.  [default: 8, or what the engine takes]",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    metavar="N",
    help="Requests that may wait; further ones are refused immediately.  [default: any number]",
)
@click.option(
    "--delay",
    type=click.FloatRange(min=0),
    default=0,
    metavar="MS",
    help="Milliseconds that a request waits for others in its batch.  [default: 0]",
)
@click.option(
    "--size",
    "sizes",
    type=Size(),
    multiple=True,
    help="Size of pictures to warm up with, or to check with; repeatable.",
)
@click.option(
    "--environment",
    metavar="PATH",
    help="Virtual environment with maxim-deploy, for the server's Python.",
)
@click.option(
    "--check",
    "url",
    metavar="URL",
    help="Send pictures to a server, http://HOST:8000 or grpc://HOST:8001, and compare.",
)
@click.option("--model", metavar="NAME", help="Model to check.  [default: the bundle's name]")
@click.option(
    "--model-version", metavar="N", default="", help="Version to check.  [default: the newest]"
)
@click.option("--json", "as_json", is_flag=True, help="Results as JSON.")
@shell.common_options
def triton(bundle: Path, output: Path | None, url: str | None, as_json: bool, **given: Any) -> None:
    """Serve BUNDLE with NVIDIA Triton: write a model repository, or check a running server.

    -o adds a new version to the repository, unless the repository has this bundle already. With
    --check, the exit code is 1 if an answer is wrong or missing.
    """
    if (output is None) == (url is None):
        raise UsageError("give either -o REPOSITORY to write, or --check URL to check a server")
    _refuse_others("-o" if output else "--check", _OF_CHECK if output else _OF_WRITING, given)
    if output is not None:
        _write(bundle, output, as_json, given)
    else:
        assert url is not None
        _check(bundle, url, as_json, given)


_OF_WRITING = (
    "backend", "name", "instances", "threads", "max_memory", "gpus", "max_batch", "queue", "delay",
    "environment",
)  # fmt: skip
_OF_CHECK = ("model", "model_version")
"""Options of only one use."""


def _refuse_others(use: str, names: tuple[str, ...], given: dict[str, Any]) -> None:
    context = click.get_current_context()
    for name in names:
        source = context.get_parameter_source(name)
        if name in given and source is click.core.ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} has no meaning with {use}; omit it")


def _write(bundle: Path, output: Path, as_json: bool, given: dict[str, Any]) -> None:
    from maxim_deploy.serving.triton.options import QUEUE, ModelOptions
    from maxim_deploy.serving.triton.writing import add_to_repository

    memory = given["max_memory"]
    options = ModelOptions(
        backend=given["backend"],
        name=given["name"],
        precision=given["precision"],
        instances=given["instances"],
        threads=given["threads"],
        max_memory=None if memory is None else bytes_from(memory, "--max-memory"),
        gpus=given["gpus"],
        max_batch=given["max_batch"],
        queue=QUEUE if given["queue"] is None else given["queue"],
        delay_us=round(1000 * given["delay"]),
        sizes=given["sizes"] or None,
        environment=_on_the_server(given["environment"]),
    )
    written = add_to_repository(bundle, output, options)
    shell.emit(json.dumps(written.to_json()) if as_json else str(written.folder))
    shell.say(str(written))


def _on_the_server(environment: str | None) -> str | None:
    """The absolute form of an existing path, because the server runs in another folder.

    Any other path is returned unchanged: it may exist on the server only.
    """
    if environment is not None and Path(environment).exists():
        return str(Path(environment).absolute())
    return environment


def _check(bundle: Path, url: str, as_json: bool, given: dict[str, Any]) -> None:
    from maxim_deploy import runtime
    from maxim_deploy.serving.triton.check import CHECK_SIZES, check_model

    with runtime.load(bundle, precision=given["precision"]) as restorer:
        model = given["model"] or restorer.info.model.name
        sizes = given["sizes"] or CHECK_SIZES
        for found in check_model(url, model, restorer, sizes, version=given["model_version"]):
            shell.emit(json.dumps(found.to_json()) if as_json else str(found))
