"""What became of a backend that was tried."""

from __future__ import annotations

from dataclasses import dataclass

PIP_LINE = "; run: "
"""What stands before the command line that puts it right, in errors of `require` and of probes."""


@dataclass
class Verdict:
    """What became of one backend.

    Attributes:
        name: as `maxim_deploy.load` takes it.
        works: the tiny graph ran, and its result is right.
        reason: why it does not work, or None.
        install: the command line that puts it right, or None if none can or none is needed.
        builds_engines: for TensorRT, whether an engine can be built here; otherwise None.
        log: what the libraries said on stderr if it does not work.
    """

    name: str
    works: bool = False
    reason: str | None = None
    install: str | None = None
    builds_engines: bool | None = None
    log: str = ""
