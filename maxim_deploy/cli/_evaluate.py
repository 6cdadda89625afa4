"""`maxim-parity --dataset`: run a stage on a data set, skip finished pairs, show averages."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy._files import sha256_of
from maxim_deploy._version import __version__
from maxim_deploy.cli import shell
from maxim_deploy.cli._scores import ScoreRecord, files_of, fingerprints
from maxim_deploy.errors import MaximDeployError

if TYPE_CHECKING:
    from maxim_deploy.imaging import Rounding
    from maxim_deploy.parity.dataset import Conventions, Pair, Score
    from maxim_deploy.parity.stage import Stage


def evaluate(
    dataset: Path,
    name: str,
    *,
    precision: str | None,
    metric: str | None,
    channel: str | None,
    rounding: Rounding | None,
    self_ensemble: bool,
    resume: Path | None,
    as_json: bool,
) -> None:
    """Measure and show every pair, then the averages.

    Raises:
        Exit: a file has no counterpart, or a pair could not be measured.
        MaximDeployError: the stage cannot be opened, lacks the metric or cannot be truncated, or
            there are no pairs.
    """
    from maxim_deploy.parity.dataset import Conventions, channel_of, metrics_of, pairs_in
    from maxim_deploy.parity.roundings import check_truncation
    from maxim_deploy.parity.stages import bundle_of, open_stage

    pairs, alone = pairs_in(dataset)
    failed = [{"name": name, "error": text} for name, text in alone.items()]
    for text in alone.values():
        shell.complain(f"failed: {text}")
    with closing(open_stage(name, precision)) as stage:
        check_truncation(stage, rounding)
        facts, bundle = stage.facts, bundle_of(name)
        model = bundle.manifest.model.to_json() if bundle else dict(facts.get("model", {}))
        metrics = metrics_of(stage, metric)
        if not metric and "reference" not in metrics:
            shell.say(
                f"without the reference metric: {name} returns 8 bits, and this metric needs floats"
            )
        chosen = channel or channel_of(model.get("task"))
        conventions = Conventions(metrics, chosen, rounding, self_ensemble)
        settings = {
            "maxim_deploy": __version__,
            "stage": name.rpartition(":")[2] if bundle else name,
            "bundle": sha256_of(bundle.path / "manifest.json") if bundle else None,
            "facts": facts,
            **conventions.to_json(),
        }
        memory = ScoreRecord(resume, settings)
        scores = _measure(stage, pairs, conventions, memory, failed, as_json)
    _show(scores, failed, model, {"conventions": conventions.to_json(), "stage": facts}, as_json)
    if failed:
        raise click.exceptions.Exit(1)


def _measure(
    stage: Stage,
    pairs: list[Pair],
    conventions: Conventions,
    memory: ScoreRecord,
    failed: list[dict[str, str]],
    as_json: bool,
) -> list[tuple[str, Score]]:
    from maxim_deploy.jobs.progress import FileProgress
    from maxim_deploy.parity.dataset import score

    scores = []
    with shell.progress_bar() as show:
        for done, pair in enumerate(pairs):
            show(FileProgress(pair.input, done, len(pairs)))
            try:
                files = files_of(pair, stage)
                found = memory.score_of(pair.name, files)
                if found is None:
                    before = fingerprints(pair.name, files)
                    found = score(stage, pair, conventions)
                    memory.note(pair.name, before, found)
            except (MaximDeployError, MemoryError) as error:
                text = str(error) or "not enough memory"
                if isinstance(error, MemoryError):  # the message lacks the pair
                    text = f"pair {pair.name!r} | {text}"
                failed.append({"name": pair.name, "error": text})
                shell.complain(f"failed: {text}")
            else:
                scores.append((pair.name, found))
                if not as_json:
                    shell.emit(f"{pair.name:<32}{_words(found)}")
    return scores


def _show(
    scores: list[tuple[str, Score]],
    failed: list[dict[str, str]],
    model: dict[str, Any],
    provenance: dict[str, Any],
    as_json: bool,
) -> None:
    from maxim_deploy.machine.facts import environment
    from maxim_deploy.parity.dataset import report_of

    report = report_of(scores, failed, model.get("name"))
    if as_json:
        shell.emit(json.dumps({**report, **provenance, "environment": environment()}, indent=2))
        return
    if scores:
        shell.emit(f"{f'mean of {len(scores)}':<32}{_words(report['mean'])}")
        shell.emit(f"{'standard deviation':<32}{_words(report['std'])}")
    if report["published"]:
        known = report["published"]
        title = f"published for {known['dataset']}"
        shell.emit(f"{title:<32}PSNR {known['psnr']:.2f} dB, SSIM {known['ssim']:.3f}")


def _words(found: dict[str, Any]) -> str:
    parts = [
        f"{word} {'infinite or NaN' if found[key] is None else format(found[key], places)}{unit}"
        for key, word, places, unit in (
            ("psnr", "PSNR", ".2f", " dB"),
            ("paper_psnr", "paper PSNR", ".2f", " dB"),
            ("ssim", "SSIM", ".4f", ""),
        )
        if key in found
    ]
    return ", ".join(parts)
