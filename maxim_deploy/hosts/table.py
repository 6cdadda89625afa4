"""The table of hosts: the only place that lists the programs that `maxim-export --for` writes for.

A host is a row here and a file of its name in this room. The file has one function, `write`, from
an `Order` and an empty folder to the host's files in it. It is imported when it is called.
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
    """What is known of a host before anything is written for it.

    Attributes:
        name: as `--for` takes it, and of its module.
        about: the program, and what is written for it, in a few words.
        precisions: those that it takes, the best first.
        many: whether it takes several at once; otherwise the first one that there is.
        io: form of a bundle's graphs that its files are made from: "tensor" also for the planar
            form, which is made from it. None for weights only: then nothing is traced.
        io_types: types of input and output of the planar form that it takes, the default first.
        needs_source: whether it takes the literal weights.
        takes_web_runtime: whether it takes the files of onnxruntime-web, and needs them.
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
        """Fill an empty folder with what the host takes; see `writing.write_for_host`."""
        importlib.import_module(f"maxim_deploy.hosts.{self.name}").write(order, folder)

    def check(self, wishes: Wishes) -> None:
        """Refuse what the host cannot take, or lacks.

        Raises:
            UsageError: the message names what it can take.
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
        if self.takes_web_runtime:  # better now than after an export
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
"""By name, in the order in which they are shown."""


def host_named(name: str) -> Host:
    """The row of a host.

    Raises:
        UsageError: there is no such host; the message lists those there are.
    """
    check_known("host", name, HOSTS)
    return HOSTS[name]
