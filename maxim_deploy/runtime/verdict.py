"""The result of trying a backend."""

from __future__ import annotations

from dataclasses import dataclass

PIP_LINE = "; run: "
"""Text before the command that fixes a problem, in errors of `require` and of probes."""


@dataclass
class Verdict:
    """The result of trying one backend.

    Attributes:
        name: name for `maxim_deploy.load`.
        works: whether the tiny graph ran with the right result.
        reason: why it does not work, or None.
        install: the command that fixes it, or None if there is none.
        builds_engines: for TensorRT, whether engines can be built here; None for others.
        log: output of the libraries on stderr if it does not work.
    """

    name: str
    works: bool = False
    reason: str | None = None
    install: str | None = None
    builds_engines: bool | None = None
    log: str = ""
