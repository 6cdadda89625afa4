"""The table of hosts: the only list of programs that `maxim-export --for` writes for.

A host is a row here and a module of its name in this room. The module has one function, `write`,
which fills an empty folder by an `Order`. It is imported on the first call.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.hosts.order import Order, Wishes
from maxim_deploy.hosts.web_runtime import runtime_files
from maxim_deploy.spec.precision import FULL


@dataclass(frozen=True)
class Host:
    """Facts about a host.

    Attributes:
        name: name for `--for`, and of its module.
        about: the program and the written files, in a few words.
        precisions: accepted precisions, the best first.
        many: whether all precisions are written. Otherwise the first available one is.
        io: form of the bundle's graphs that it needs. The planar form is made from "tensor". None
            for weights only, without tracing.
        io_types: accepted types of the planar form's input and output, the default first.
        needs_source: whether it needs the literal weights.
        takes_web_runtime: whether it needs the files of onnxruntime-web.
    """

    name: str
    about: str
    precisions: tuple[str, ...] = (FULL,)
    many: bool = False
    io: Literal["tensor", "image"] | None = "tensor"
    io_types: tuple[str, ...] = (FULL,)
    needs_source: bool = False
    takes_web_runtime: bool = False

    def write(self, order: Order, folder: Path) -> None:
        """Fill an empty folder with the host's files; see `writing.write_for_host`."""
        importlib.import_module(f"maxim_deploy.hosts.{self.name}").write(order, folder)

    def check(self, wishes: Wishes) -> None:
        """Raise an error for options that the host does not support, or for missing ones.

        Raises:
            UsageError: the message lists what it supports.
        """
        for precision in wishes.precisions or ():
            self._check_taken("--precision", precision, self.precisions)
        if wishes.precisions and len(wishes.precisions) > 1 and not self.many:
            raise UsageError(
                f"--for {self.name} takes one precision, not {','.join(wishes.precisions)}; "
                f"choose one of {', '.join(self.precisions)}"
            )
        self._check_taken("--io-type", wishes.io_type, self.io_types)
        if wishes.web_runtime is not None and not self.takes_web_runtime:
            able = ", ".join(host.name for host in _ROWS if host.takes_web_runtime)
            raise UsageError(f"--for {self.name} cannot take --web-runtime; these can: {able}")
        if self.takes_web_runtime:  # before a long export
            runtime_files(wishes.web_runtime)

    def _check_taken(self, option: str, asked: str, taken: tuple[str, ...]) -> None:
        if asked not in taken:
            raise UsageError(
                f"--for {self.name} cannot take {option} {asked}; it takes {', '.join(taken)}"
            )


# fmt: off
_ROWS: tuple[Host, ...] = (
    Host(
        "vapoursynth", "VapourSynth with vs-mlrt: graphs and a script",
        precisions=("fp32", "fp16", "bf16"), many=True, io_types=("fp32", "fp16"),
    ),
    Host(
        "chainner", "chaiNNer: graphs for its ONNX nodes",
        precisions=("fp32", "fp16"), many=True, io_types=("fp32", "fp16"),
    ),
    Host("darktable", "darktable's neural restore: a .dtmodel", precisions=("fp32", "fp16")),
    Host(
        "comfyui", "ComfyUI, and all that loads models with spandrel: weights and nodes",
        io=None, needs_source=True,
    ),
    Host("web", "a page that restores pictures in the browser", io="image", takes_web_runtime=True),
    Host(
        "hub", "a model repository for the Hub of Hugging Face",
        precisions=("fp32", "fp16"), many=True, needs_source=True,
    ),
)
# fmt: on

HOSTS = {row.name: row for row in _ROWS}
"""Hosts by name, in the order of display."""


def host_named(name: str) -> Host:
    """The row of a host.

    Raises:
        UsageError: the name is unknown; the message lists the known hosts.
    """
    check_known("host", name, HOSTS)
    return HOSTS[name]
