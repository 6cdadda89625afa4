"""Compare times with earlier records.

Only records of the same machine are compared. Even ratios of subjects differ between machines: the
deployment graph was 1.86 times as fast as PyTorch on one kind of processor and 2.26 times on
another. So a comparison across machines is refused before measuring.

Rounds of two runs are not pairs. So each p50 has its own 95 % confidence interval of the median,
and the ratio lies between the quotients of the interval ends. A regression is an interval wholly
more than 5 % above 1, because two equal runs on an idle machine may differ by that much. If the
host has moved the processors in between (see `handoff`), equal runs may differ by half, so there is
no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from maxim_deploy.benchmarks.noise import moved
from maxim_deploy.benchmarks.records import Record
from maxim_deploy.benchmarks.timing import MIN_ROUNDS, Ratio, median_interval
from maxim_deploy.errors import MaximDeployError, UsageError
from maxim_deploy.machine.facts import machine_of

BETWEEN_RUNS = 0.05
"""Two equal runs on an idle machine agree within this share, or have a warning."""


@dataclass(frozen=True)
class Change:
    """A bracket of a subject, before and now.

    Attributes:
        what: model, subject, size and bracket.
        before_ms: median of the earlier rounds.
        now_ms: median of the rounds of this run.
        ratio: `now_ms` over `before_ms`.
        handoffs_ns: time of a cache line from one processor to the next, before and now; None if
            unknown.
    """

    what: str
    before_ms: float
    now_ms: float
    ratio: Ratio
    handoffs_ns: tuple[float | None, float | None] = (None, None)

    @property
    def comparable(self) -> bool:
        """Whether there were enough rounds and the machine was in the same state."""
        return self.ratio.rounds >= MIN_ROUNDS and not moved(*self.handoffs_ns)

    @property
    def verdict(self) -> str | None:
        """Whether "slower" or "faster"; None within the noise or if not comparable."""
        if not self.comparable:
            return None
        if self.ratio.low > 1 + BETWEEN_RUNS:
            return "slower"
        return "faster" if self.ratio.high < 1 / (1 + BETWEEN_RUNS) else None

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.before_ms:.4g} ms before, {self.now_ms:.4g} ms now, x "
            f"{self.ratio}: {self._words}"
        )

    @property
    def _words(self) -> str:
        if self.comparable:
            return self.verdict or "no difference outside the noise"
        if self.ratio.rounds < MIN_ROUNDS:
            return f"no verdict, {self.ratio.rounds} rounds are too few ({MIN_ROUNDS})"
        then, now = self.handoffs_ns
        return (
            "no verdict, the host has moved the processors: a cache line took "
            f"{then:.0f} ns from one to the next before, {now:.0f} now"
        )


def same_machine(earlier: Sequence[Record], environment: Mapping[str, Any]) -> list[Record]:
    """The earlier records of this machine.

    Raises:
        UsageError: there is none; the message names the machines.
    """
    here = [record for record in earlier if _same(record.environment, environment)]
    if not here:
        there = sorted({machine_of(record.environment) for record in earlier}) or ["no machine"]
        raise UsageError(
            f"baseline of {'; '.join(there)} | this is another machine, {machine_of(environment)}, "
            "so the times cannot be compared | measure a baseline here with -o FILE"
        )
    return here


def changes(now: Iterable[Record], earlier: Iterable[Record]) -> list[Change]:
    """Changes of all common brackets, against the newest earlier record of the same state.

    Raises:
        MaximDeployError: they have nothing in common.
    """
    worked = [record for record in earlier if record.error is None]
    pairs = [(record, _counterpart(record, worked)) for record in now if record.error is None]
    found = [
        _change(record, before, bracket)
        for record, before in pairs
        if before
        for bracket in record.timings
        if bracket in before.timings
    ]
    if not found:
        has = sorted({f"{r.model} {r.label} {_size(r)}" for r in worked})
        raise MaximDeployError(
            "nothing was compared | the baseline has none of these subjects, sizes and batches | "
            f"it has {', '.join(has) or 'no record'}"
        )
    return found


def lost(now: Iterable[Record], earlier: Iterable[Record]) -> list[Record]:
    """Records that fail now but did not before. The device of a failed record may be unknown."""
    worked = {_key(record)[:-1] for record in earlier if record.error is None}
    return [record for record in now if record.error is not None and _key(record)[:-1] in worked]


def _counterpart(now: Record, earlier: Iterable[Record]) -> Record | None:
    found = [record for record in earlier if _key(record) == _key(now)]
    in_state = [record for record in found if not moved(record.handoff_ns, now.handoff_ns)]
    return in_state[-1] if in_state else found[-1] if found else None


def _change(now: Record, before: Record, bracket: str) -> Change:
    own, other = now.medians_ms(bracket), before.medians_ms(bracket)
    (low, high), (other_low, other_high) = median_interval(own), median_interval(other)
    ratio = Ratio(
        median(own) / median(other), low / other_high, high / other_low, min(len(own), len(other))
    )
    batch = f" x {now.batch}" if now.batch > 1 else ""
    what = f"{now.model} {now.label} {_size(now)}{batch} {bracket}"
    handoffs = before.handoff_ns, now.handoff_ns
    return Change(what, median(other), median(own), ratio, handoffs)


def _key(record: Record) -> tuple[object, ...]:
    return (
        record.model,
        record.subject,
        record.precision,
        tuple(record.size),
        record.batch,
        record.threads,
        record.device,
    )


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two environments are of one machine.

    The oldest records lack the processor's family, so only its name is compared there.
    """
    if one.get("cpu_id") is None or other.get("cpu_id") is None:
        one, other = ({**facts, "cpu_id": None} for facts in (one, other))
    return machine_of(one) == machine_of(other)


def _size(record: Record) -> str:
    return f"{record.size[0]}x{record.size[1]}"
