"""Judged comparisons: two stages on every picture, and the whole line of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from maxim_deploy._progress import Progress
from maxim_deploy.errors import MaximDeployError, MissingDependencyError, UsageError
from maxim_deploy.imaging import Rounding, to_unit
from maxim_deploy.imaging.files import write_image
from maxim_deploy.machine.gpu import find_gpu
from maxim_deploy.parity.comparison import LEVELS, Comparison, compare, error_map
from maxim_deploy.parity.pictures import Sample
from maxim_deploy.parity.roundings import check_rounding, comparable, is_one_truncated
from maxim_deploy.parity.stage import Stage
from maxim_deploy.parity.stages import (
    MODULES,
    SIMULATED,
    bundle_stages,
    open_stage,
    stored_stage,
)
from maxim_deploy.parity.stored import Folder
from maxim_deploy.parity.thresholds import Threshold, threshold_for
from maxim_deploy.runtime.registry import compared_backends
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.precision import CPU_PRECISIONS, FULL, LOW

LOOKED_INTO = (*MODULES, FULL, *SIMULATED)
"""Stages whose inner tensors can be compared. Low-precision graphs run in simulated precision."""


class Arrow(NamedTuple):
    """Two stages by name: A, which is judged, and B, the reference."""

    a: str
    b: str


@dataclass(frozen=True)
class Judged:
    """The comparison of two stages on a picture.

    Attributes:
        arrow: the stages.
        image: name of the picture; empty if a stage could not be opened.
        comparison: A against B; None if it failed.
        threshold: the threshold; None if the comparison failed.
        faults: reasons for failing; empty if it passes.
        facts: of the two stages, `a` and `b`.
        map: file with the error map, if one was written.
    """

    arrow: Arrow
    image: str
    comparison: Comparison | None
    threshold: Threshold | None
    faults: list[str]
    facts: dict[str, dict[str, Any]]
    map: str | None = None

    @property
    def passed(self) -> bool:
        """Whether A is within the limits."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """A line of a record; see README for the keys."""
        measured = self.comparison.to_json() if self.comparison else {}
        return {
            **self.arrow._asdict(),
            "image": self.image,
            **measured,
            "threshold": self.threshold.name if self.threshold else None,
            "passed": self.passed,
            "faults": self.faults,
            "map": self.map,
            "stages": self.facts,
        }


@dataclass(frozen=True)
class Options:
    """How stages are compared.

    Attributes:
        precision: of bundles named without a stage.
        threshold: threshold for all comparisons; None for that of the stages' precisions.
        rounding: rounding of results to 8 bits for a comparison with a folder's pictures. None
            treats the folder's pictures as truncated, like the published scripts, and adds half a
            level.
        maps: folder for error maps; None for none.
        self_ensemble: whether to use the published mean over eight rotations and flips.
    """

    precision: str | None = None
    threshold: Threshold | None = None
    rounding: Rounding | None = None
    maps: Path | None = None
    self_ensemble: bool = False


def line_of(bundle: Bundle, name: str, precisions: Iterable[str]) -> list[Arrow]:
    """Every arrow from the literal network to the graphs of a bundle, in the order of the line.

    Args:
        bundle: the bundle.
        name: name of the bundle, as prefix of its stages.
        precisions: low precisions to include if the bundle has them.

    Raises:
        UsageError: the bundle has fewer than two stages.
    """
    have = (*bundle_stages(bundle), *_backends(bundle))
    steps = [("deployment", "literal"), (FULL, "deployment")]
    if bundle.manifest.settings.get("literal"):
        steps = [(FULL, "literal")]
    on_cpu = [spec.name for spec in compared_backends() if not spec.is_on_gpu]
    on_gpu = [spec.name for spec in compared_backends() if spec.is_on_gpu]
    steps += [(f"{FULL}.image", FULL), *((f"{backend}.{FULL}", FULL) for backend in on_cpu)]
    for low in (name for name in LOW if name in precisions):
        steps += [(f"{low}.simulated", FULL)]
        if low in CPU_PRECISIONS:  # it keeps values wide between casts
            steps += [(low, FULL), (f"{low}.image", low)]
        steps += [(f"{backend}.{low}", FULL) for backend in on_gpu]
    arrows = [Arrow(f"{name}:{a}", f"{name}:{b}") for a, b in steps if a in have and b in have]
    if not arrows:
        raise UsageError(
            f"bundle {name!r} has no two stages to compare; it has: {', '.join(have)} | export it "
            "with --io image,tensor and without --no-source"
        )
    return arrows


def with_tensors(line: Sequence[Arrow]) -> list[Arrow]:
    """The comparisons of a bundle's line whose stages both have inner tensors.

    Raises:
        UsageError: there is none.
    """
    found = [arrow for arrow in line if all(end.rpartition(":")[2] in LOOKED_INTO for end in arrow)]
    if not found:
        have = ", ".join(" against ".join(arrow) for arrow in line)
        raise UsageError(
            f"no two stages have inner tensors to compare; the bundle has {have} | export it "
            "without --no-source, or with a low precision"
        )
    return found


def _backends(bundle: Bundle) -> set[str]:
    """Backends, with precisions, that this machine may run. GPU backends need a GPU."""
    graphs = {entry.precision for entry in bundle.manifest.graphs}
    engines = {(entry.library, entry.precision) for entry in bundle.manifest.engines}
    has_gpu = find_gpu(0) is not None
    return {
        f"{spec.name}.{precision}"
        for spec in compared_backends()
        for precision in spec.precisions
        if (has_gpu or not spec.is_on_gpu)
        and ((spec.name, precision) in engines if spec.runs == "engines" else precision in graphs)
    }


def judge(
    arrows: Iterable[Arrow],
    samples: list[Sample],
    options: Options,
    progress: Progress = lambda _: None,
) -> Iterator[Judged]:
    """Compare the stages of each arrow on every picture.

    One pair of stages is open at a time. A picture that cannot be compared does not stop the rest.
    With several arrows, a stage that cannot be opened does not either. A missing extra is raised
    last.

    Raises:
        UsageError: there is nothing to compare, or a rounding does not apply.
        MissingDependencyError: the library of a stage is not installed.
        MaximDeployError: a stage of the only arrow cannot be opened.
    """
    arrows = list(arrows)
    if not arrows or not samples:
        raise UsageError("nothing to compare: no stages or no pictures")
    missing: MissingDependencyError | None = None
    for arrow in arrows:
        progress(f"comparing {' '.join(arrow.a.split(':'))} with {' '.join(arrow.b.split(':'))}")
        try:
            ends = [open_stage(name, options.precision) for name in arrow]
        except MaximDeployError as error:
            if len(arrows) == 1:
                raise
            if isinstance(error, MissingDependencyError):
                missing = missing or error
            yield Judged(arrow, "", None, None, [str(error)], {})
            continue
        # Two networks may fit the memory where the whole line would not.
        with closing(ends[0]) as a, closing(ends[1]) as b:
            check_rounding(a, b, options.rounding)
            for sample in samples:
                yield _judged(a, b, sample, options)
    if missing:
        raise missing


def _judged(a: Stage, b: Stage, sample: Sample, options: Options) -> Judged:
    arrow, facts = Arrow(a.name, b.name), {"a": a.facts, "b": b.facts}
    try:
        results = [
            stage.restore(
                sample, self_ensemble=options.self_ensemble and not isinstance(stage, Folder)
            )
            for stage in (a, b)
        ]
        # Only in comparison with 8 bits is the other result clipped: clipping would hide errors
        # outside of [0, 1].
        found, expected = comparable(a, b, results, options.rounding)
        source = None if sample.image is None else to_unit(sample.image)
        comparison = compare(found, expected, source)
    except MaximDeployError as error:
        return Judged(arrow, sample.name, None, None, [str(error)], facts)
    threshold = options.threshold or threshold_for(
        (a.precision, b.precision),
        in_8_bits=2 if options.rounding else a.is_8bit + b.is_8bit,
        alike=not is_one_truncated(a, b, options.rounding),
    )
    written = None
    if options.maps:
        written = options.maps / f"{file_stem(arrow)}.{sample.name}.png"
        # The allowed error is white. It is at least a part of a level, to avoid division by zero.
        full_scale = max(threshold.max_error_levels, 1 / LEVELS)
        write_image(written, error_map(found, expected, full_scale))
    faults = threshold.faults(comparison)
    return Judged(
        arrow, sample.name, comparison, threshold, faults, facts, str(written) if written else None
    )


def samples_of(arrow: Arrow) -> list[Sample]:
    """The pictures of stored stages, with inputs if a stage has them.

    None if neither stage is stored. For two folders, the pictures in both.
    """
    found: dict[str, Sample] = {}
    for stage in map(stored_stage, arrow):
        for sample in stage.samples if stage else ():
            if sample.name not in found or found[sample.name].image is None:
                found[sample.name] = sample
    return list(found.values())


def file_stem(arrow: Arrow) -> str:
    """A file name for an arrow, without suffix."""
    names = [Path(end).name.replace(":", "-") for end in arrow]
    return f"{names[0]}.vs.{names[1]}"
