"""Try choices of float32 islands on pictures. Results are kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from maxim_deploy._files import sha256_of_sources
from maxim_deploy._optional import require
from maxim_deploy._records import append_lines, read_intact_lines
from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.graph.precision.compare import difference
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.session import open_network
from maxim_deploy.graph.precision.simulated import simulated_in_float32
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.parity.blocks import Block, Names, cover

FORMAT = 1

_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("graph", "parity")
"""What makes a graph of islands and runs it: a trial of other code is not reused."""

Picture = NDArray[np.float32]
Run = Callable[[Picture], Picture]


@dataclass(frozen=True)
class Judge:
    """How a low-precision graph is run to be judged.

    Attributes:
        name: with the versions that a result depends on; results of another name are not reused.
        open: a graph to a function from `image` to `restored`.
        sees_sums: whether sums lose what they lose on the device. Where they do not, an island
            that is there for a sum cannot be seen to be needed, and is kept.
    """

    name: str
    open: Callable[[ir.Model], Run]
    sees_sums: bool


def simulated_judge() -> Judge:
    """Simulated precision, which rounds every stored tensor, on ONNX Runtime's CPU provider."""
    ort = require("onnxruntime", "cpu")
    return Judge(
        f"simulated precision, onnxruntime {ort.__version__}", _open_simulated, sees_sums=False
    )


def _open_simulated(model: ir.Model) -> Run:
    return open_network(simulated_in_float32(model))


@dataclass(frozen=True)
class Trial:
    """The accuracy of a choice of islands.

    Attributes:
        psnr: by picture, dB to the float32 graph, results clipped to [0, 1]; infinite for equal
            results, minus infinity where one is not finite or the graph cannot be made.
        fault: why the graph cannot be made, or what is not finite; empty if nothing is wrong.
    """

    psnr: dict[str, float]
    fault: str = ""

    @property
    def worst(self) -> float:
        """The lowest dB over the pictures."""
        return min(self.psnr.values())

    @property
    def power(self) -> float:
        """The mean square of the error where it is largest; those of several causes add up."""
        # Errors of separate causes are independent: their powers add up, their amplitudes do not.
        return math.inf if self.worst == -math.inf else 10 ** (-self.worst / 10)


class Trials:
    """Tries islands of one float32 graph in one low precision.

    Args:
        core: the float32 graph of the tensor form.
        tree: its float nodes.
        low: type of a low precision, such as "float16".
        pictures: by name float32 [1, 3, H, W] in [0, 1], H and W multiples of 64.
        judge: how graphs are run.
        cache: a folder where trials are kept; None keeps none.
        graph: identifies `core` there, such as its SHA-256.
        progress: told what was tried, its worst dB, and whether it comes from the cache.

    Raises:
        UsageError: there is no picture, or the cache cannot be written.
        ExportError: the float32 graph gives a value that is not finite.
    """

    def __init__(
        self,
        core: ir.Model,
        tree: Block,
        low: str,
        pictures: Mapping[str, Picture],
        *,
        judge: Judge,
        cache: Path | None = None,
        graph: str = "",
        progress: Callable[[str, float, bool], None] = lambda *_: None,
    ) -> None:
        if not pictures:
            raise UsageError("no picture was given to try precisions on")
        self.core, self.tree, self.low, self.pictures = core, tree, low, pictures
        self.judge, self.progress = judge, progress
        self.run_now = self.from_cache = 0
        # The results are kept, not the session: S-2's would hold its memory during all trials.
        run = open_network(core)
        self._expected = {name: run(picture) for name, picture in pictures.items()}
        for name, expected in self._expected.items():
            if not np.isfinite(expected).all():
                raise ExportError(f"picture {name!r}: the float32 graph gives values not finite")
        self._known: dict[str, Trial] = {}
        self._seen: set[str] = set()
        self._file = _cache_file(cache, self._identity(graph)) if cache else None
        if self._file:
            self._known = dict(read_intact_lines(self._file, _trial))

    def table(self, islands: Names) -> PrecisionTable:
        """A table of these islands, without reasons."""
        blocks = cover(self.tree, islands)
        return PrecisionTable(
            self.low, tuple(Decision(block.pattern, "float32", "tried") for block in blocks)
        )

    def measure(self, islands: Names, what: str) -> Trial:
        """Run the graph with these float32 nodes on every picture, or return the kept result.

        Args:
            islands: names of nodes.
            what: says in a few words what is tried.
        """
        # The search reaches a set of islands in several ways. Sorted names identify it.
        key = hashlib.sha256("\n".join(sorted(islands)).encode()).hexdigest()
        if key in self._seen:
            return self._known[key]
        self._seen.add(key)
        is_old = key in self._known
        if is_old:
            self.from_cache += 1
        else:
            self._known[key] = self._run(islands)
            self.run_now += 1
            # A trial takes seconds to minutes: it is on the disk before the next one begins.
            if self._file:
                append_lines(self._file, [_line(key, self._known[key])], durable=True)
        self.progress(what, self._known[key].worst, is_old)
        return self._known[key]

    def _run(self, islands: Names) -> Trial:
        # A picture that cannot be restored counts as the worst, and the search goes on.
        psnr, fault = dict.fromkeys(self.pictures, -math.inf), ""
        try:
            run = self.judge.open(low_precision(self.core, self.table(islands)))
        except ExportError as error:  # a weight out of range, an operator without the type
            return Trial(psnr, str(error))
        for name, picture in self.pictures.items():
            try:
                psnr[name] = difference(run(picture), self._expected[name]).psnr
            except ExportError as error:
                fault = f"picture {name!r}: {error}"
        return Trial(psnr, fault)

    def _identity(self, graph: str) -> str:
        digests = {
            name: [list(picture.shape), hashlib.sha256(picture.tobytes()).hexdigest()]
            for name, picture in self.pictures.items()
        }
        sources = sha256_of_sources(*(_PACKAGE / room for room in _ROOMS))
        parts: list[Any] = [FORMAT, graph, self.low, self.judge.name, digests, sources]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _cache_file(folder: Path, identity: str) -> Path:
    path = folder / f"{identity}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        append_lines(path, [])
    except OSError as error:
        raise UsageError(
            f"cannot use the cache folder {str(folder)!r}: {error}; choose another with --cache"
        ) from error
    return path


def _line(key: str, trial: Trial) -> dict[str, Any]:
    psnr = {name: str(value) for name, value in trial.psnr.items()}  # JSON has no infinity
    return {"islands": key, "psnr": psnr, "fault": trial.fault}


def _trial(line: Any) -> tuple[str, Trial]:
    """The inverse of `_line`; raises ValueError, TypeError or KeyError for another line."""
    psnr = {str(name): float(value) for name, value in line["psnr"].items()}
    if not psnr or any(map(math.isnan, psnr.values())):
        raise ValueError("a trial has a number for each picture")
    return str(line["islands"]), Trial(psnr, str(line["fault"]))
