"""Search a decision table for a bundle, pictures and a budget, with the cost of each decision."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from maxim_deploy.errors import UsageError
from maxim_deploy.graph.files import load_whole_graph
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.magnitudes import Magnitudes, magnitudes, with_safe_range
from maxim_deploy.graph.precision.pictures import probe_pictures
from maxim_deploy.graph.precision.report import decided_nodes
from maxim_deploy.graph.precision.roles import spatial_means
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.graph.precision.verify import verify_types
from maxim_deploy.imaging.pixels import check_image, fitted, to_batch, to_unit
from maxim_deploy.machine.cache import cache_folder
from maxim_deploy.parity.bisect import Search
from maxim_deploy.parity.bisect_table import decided_groups, float_tree, table_from
from maxim_deploy.parity.blocks import Names
from maxim_deploy.parity.networks import traced_core
from maxim_deploy.parity.traffic import Traffic
from maxim_deploy.parity.trials import Judge, Trial, Trials, simulated_judge
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.precision import FULL, PRECISIONS

DEFAULT_SIZE = (256, 256)
"""Size of the export's gate measurement."""

TrialProgress = Callable[[str, float, bool], None]


@dataclass(frozen=True)
class Costs:
    """Accuracy and cost of a table. `bytes_per_pixel` includes casts, as in `traffic`."""

    psnr: dict[str, float]
    float32_nodes: int
    casts: int
    bytes_per_pixel: float


@dataclass(frozen=True)
class DecisionCost:
    """Cost of a float32 decision: its nodes, and the additional bytes per pixel."""

    pattern: str
    nodes: int
    bytes_per_pixel: float


@dataclass(frozen=True)
class BisectReport:
    """The result for one bundle.

    Attributes:
        precision: a low one.
        budget: in dB.
        judge: how graphs were run.
        size: height and width of the pictures.
        nodes: float nodes of the graph.
        kept: how many of them are islands that no trial may give back, see `kept_islands`.
        table: the new table.
        decided: its nodes by decision, with the largest magnitude that each saw.
        before: costs of the table that the search began with.
        after: costs of `table`.
        decisions: of `table`, the float32 ones.
        trials: graphs that were run now.
        trials_from_cache: graphs that an earlier call had run.
        seconds: of wall time.
    """

    precision: str
    budget: float
    judge: str
    size: tuple[int, int]
    nodes: int
    kept: int
    table: PrecisionTable
    decided: dict[Decision, dict[str, float | None]]
    before: Costs
    after: Costs
    decisions: list[DecisionCost]
    trials: int
    trials_from_cache: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON. `table` is input for `maxim-export --precision-table`."""
        document: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("table", "decided", "before", "after", "decisions")
        }
        document["decisions"] = [asdict(cost) for cost in self.decisions]
        for key, costs in (("before", self.before), ("after", self.after)):
            psnr = {name: db if np.isfinite(db) else None for name, db in costs.psnr.items()}
            document[key] = {**asdict(costs), "psnr": psnr}
        return {**document, "table": json.loads(self.table.to_json(self.decided))}


def bisect_bundle(
    bundle: Bundle,
    precision: str,
    photos: Mapping[str, NDArray[Any]],
    budget: float,
    *,
    size: tuple[int, int] = DEFAULT_SIZE,
    judge: Judge | None = None,
    cache: Path | None = None,
    progress: TrialProgress = lambda *_: None,
) -> BisectReport:
    """Find the float32 islands that a budget needs, starting from the bundle's or default table.

    Args:
        bundle: has a graph of the tensor form in full precision.
        precision: a low one.
        photos: by name RGB [H, W, 3], uint8, uint16 or float32; their middle is used.
        budget: dB to the float32 graph that the worst of them must have.
        size: of that middle, multiples of 64.
        judge: how graphs are run; None for simulated precision on the CPU.
        cache: folder of trials; None for one in the user's cache folder.
        progress: see `Trials`.

    Raises:
        UsageError: no picture, a size that is no multiple of 64, a budget that cannot be kept, a
            bundle of the literal form, a cache that cannot be written.
        BundleError: the bundle has no such graph, or a file of it has changed.
        ExportError: the float32 graph gives values that are not finite.
    """
    started = time.perf_counter()
    start = _start_table(bundle, precision)
    core, graph = _core(bundle, precision)
    start = start or default_table(precision, core.graph)
    probes = probe_pictures({}, *DEFAULT_SIZE)
    pictures = {name: _picture(photo, size) for name, photo in photos.items()}
    judge = judge or simulated_judge()
    tree = float_tree(core)
    trials = Trials(
        core,
        tree,
        start.low,
        pictures,
        judge=judge,
        cache=cache or cache_folder() / "bisect",
        graph=graph,
        progress=progress,
    )
    # Also extreme pictures: an export measures them and would add islands again.
    seen = magnitudes(core, [*pictures.values(), *probes.values()])
    start = with_safe_range(start, core, seen)
    traffic = Traffic(core, next(iter(pictures.values())).shape)
    groups = decided_groups(start, core)
    kept = kept_islands(start, core, seen, judge)
    search = Search(trials, traffic, budget, kept)
    islands: Names = frozenset().union(*groups.values())
    found = search.run(islands, list(groups.values()))
    table = table_from(found, start, core, budget)
    verify_types(low_precision(core, table), table)
    return BisectReport(
        precision,
        budget,
        judge.name,
        size,
        len(tree.nodes),
        len(kept),
        table,
        decided_nodes(table, core, seen),
        _costs(found.before, islands, traffic),
        _costs(found.after, found.islands, traffic),
        _decision_costs(table, core, traffic),
        trials.run_now,
        trials.from_cache,
        round(time.perf_counter() - started, 1),
    )


def kept_islands(table: PrecisionTable, core: ir.Model, seen: Magnitudes, judge: Judge) -> Names:
    """Islands that always stay.

    These are islands with values near the end of the range, because other pictures may have larger
    values and an export would add them again. Sums over positions also stay, unless the judge sees
    their loss.
    """
    bare = PrecisionTable(table.low, ())
    # From a table without decisions: an island counts only if its own magnitudes ask for it.
    large = with_safe_range(bare, core, seen).islands(core.graph)
    # A simulation rounds results but not partial sums inside an operator. It would not see the loss
    # of a mean over a million positions in 16 bits.
    sums = [] if judge.sees_sums else spatial_means(core.graph)
    return frozenset(str(node.name) for node in table.islands(core.graph) & {*large, *sums})


def _core(bundle: Bundle, precision: str) -> tuple[ir.Model, str]:
    """The float32 graph that a low precision is made from, and what identifies it.

    The bundle's own, if that has the deployment form of the low precision; else it is traced.
    """
    if bundle.manifest.settings.get("literal"):
        raise UsageError(
            f"bundle {str(bundle.path)!r} is of the literal form, which is exported in {FULL} "
            "only; export it without --literal"
        )
    entry = bundle.graph(FULL, "tensor")
    asked = bundle.manifest.settings.get("form", entry.form)
    form = PRECISIONS[precision].form if asked == "auto" else asked
    if form != entry.form:
        return traced_core(bundle, form)
    with bundle.private_graph(entry) as path:
        core = load_whole_graph(path)
    return core, " ".join(digest for digest in bundle.digests(entry).values() if digest)


def _start_table(bundle: Bundle, precision: str) -> PrecisionTable | None:
    """The table of the bundle's own graph in this precision; None if it has none."""
    default_table(precision)  # refuses unknown precisions
    name = f"{precision}.table.json"
    if name not in bundle.manifest.files:
        return None
    return PrecisionTable.from_json(bundle.read(name).decode("utf-8"))


def _picture(photo: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    check_image(photo)
    if any(side % MULTIPLE_OF or side < 1 for side in size):
        raise UsageError(
            f"pictures of {size[0]}x{size[1]} | expected multiples of {MULTIPLE_OF}, such as "
            f"{DEFAULT_SIZE[0]}x{DEFAULT_SIZE[1]}"
        )
    return to_batch(to_unit(fitted(photo, *size)))


def _costs(trial: Trial, islands: Names, traffic: Traffic) -> Costs:
    return Costs(trial.psnr, len(islands), traffic.casts(islands), traffic.bytes_per_pixel(islands))


def _decision_costs(table: PrecisionTable, core: ir.Model, traffic: Traffic) -> list[DecisionCost]:
    """The cost of each float32 decision that has an effect."""
    return [
        DecisionCost(decision.pattern, len(nodes), traffic.added(nodes))
        for decision, nodes in decided_groups(table, core).items()
        if nodes
    ]
