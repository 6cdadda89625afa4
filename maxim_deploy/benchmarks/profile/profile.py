"""The result of a profile; in `maxim-bench --layers --json` a line `{"profile": ...}`.

Times are milliseconds of a run. Each is a median of its own over all profiled runs.

- `schema` 2 (in 1 the times were those of the fastest run); `created`, UTC; `model`;
  `architecture`; `backend`; `library`; `device`; `precision`; `io`; `size` [H, W]; `batch`;
  `threads`; `environment`, see `environment.environment`
- `runs`, number of runs after the warm-up; `wall_ms`, time of a run with the profiler; `plain_ms`,
  time without it, or None
- `groups`: list of `stage`, `part`, `level` and `block` (see `spec.places`), `kind` (see
  `spec.kinds`), `ms`, and `nodes`, the number of nodes
- `unattributed_ms`: time of nodes that could not be attributed
- `between_ms`: time outside of all nodes, in the runtime and the profiler, so that all parts add up
  to `wall_ms`
- `traffic`: traffic of an engine, see `spec.traffic`; `bound`, as in a record, with `wall_ms` for
  the time taken. Both are None if unknown
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

from maxim_deploy.spec.places import Place
from maxim_deploy.spec.traffic import Traffic

SCHEMA = 2


class NodeTimes(NamedTuple):
    """One executed node: where it belongs (None: unknown), its kind, and its time in each run."""

    place: Place | None
    kind: str
    ms: Sequence[float]


@dataclass(frozen=True)
class Group:
    """All nodes of one kind at one place."""

    place: Place
    kind: str
    ms: float
    nodes: int


@dataclass(frozen=True)
class LayerProfile:
    """The time of one run by block; the fields are those of the line."""

    created: str
    model: str
    architecture: str
    backend: str
    library: str
    device: str
    precision: str
    io: str
    size: tuple[int, int]
    batch: int
    threads: int | None
    environment: dict[str, Any]
    runs: int
    wall_ms: float
    plain_ms: float | None
    groups: tuple[Group, ...]
    unattributed_ms: float
    between_ms: float
    traffic: Traffic | None = None
    bound: dict[str, Any] | None = None
    schema: int = SCHEMA

    @property
    def nodes_ms(self) -> float:
        """Time in all nodes, attributed or not, in milliseconds."""
        return sum(group.ms for group in self.groups) + self.unattributed_ms

    @property
    def title(self) -> str:
        """Model, backend, precision and size, in a line."""
        height, width = self.size
        batch = "" if self.batch == 1 else f", batch {self.batch}"
        return f"{self.model}, {self.backend} {self.precision}, {height}x{width}{batch}"

    def by_place(self) -> dict[Place, dict[str, float]]:
        """Milliseconds by kind for every block of the network, in the order of the data.

        The parts inside a block are added up, so the places have no `block`.
        """
        table: dict[Place, dict[str, float]] = defaultdict(dict)
        for group in self.groups:
            place = Place(group.place.stage, group.place.part, group.place.level)
            table[place][group.kind] = table[place].get(group.kind, 0.0) + group.ms
        return {place: table[place] for place in sorted(table, key=lambda place: place.order)}

    def by_kind(self) -> dict[str, float]:
        """Milliseconds by kind, the largest first."""
        return _sums((group.kind, group.ms) for group in self.groups)

    def by_block(self) -> dict[str, float]:
        """Milliseconds by the name of the block over all stages and levels, the largest first."""
        return _sums((group.place.name, group.ms) for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        groups = [
            asdict(group.place) | {"kind": group.kind, "ms": group.ms, "nodes": group.nodes}
            for group in self.groups
        ]
        return asdict(self) | {"groups": groups, "size": list(self.size)}


def grouped(nodes: Iterable[NodeTimes]) -> tuple[tuple[Group, ...], float]:
    """Return (groups in the order of the data, milliseconds of unattributed nodes).

    The time of a group is the median over all runs of the sum of its nodes.
    """
    times: dict[tuple[Place, str], list[Sequence[float]]] = defaultdict(list)
    unattributed: list[Sequence[float]] = []
    for node in nodes:
        if node.place is None:
            unattributed.append(node.ms)
        else:
            times[node.place, node.kind].append(node.ms)
    ordered = sorted(times, key=lambda key: (key[0].order, key[1]))
    groups = (Group(place, kind, _median_of_sums(times[place, kind]), len(times[place, kind]))
              for place, kind in ordered)  # fmt: skip
    return tuple(groups), _median_of_sums(unattributed)


def _median_of_sums(nodes: Sequence[Sequence[float]]) -> float:
    """Median over runs of the sum of the nodes' milliseconds."""
    return median(map(sum, zip(*nodes, strict=True))) if nodes else 0.0


def _sums(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for name, ms in pairs:
        sums[name] += ms
    return dict(sorted(sums.items(), key=lambda item: -item[1]))
