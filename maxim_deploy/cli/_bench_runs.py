"""The runs of `maxim-bench`, from its arguments."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from maxim_deploy._optional import require_extra
from maxim_deploy.benchmarks.suite import SuitePlan, read_options, read_suite
from maxim_deploy.benchmarks.suite_run import SuiteRun, backends_here, named
from maxim_deploy.cli import shell
from maxim_deploy.errors import UsageError, nearest
from maxim_deploy.machine.cache import cache_folder
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.recipes import chosen


def runs_asked_for(
    paths: tuple[Path, ...],
    suites: tuple[Path, ...],
    plan_name: str | None,
    cache: Path | None,
    options: dict[str, Any],
    environment: dict[str, Any],
) -> list[SuiteRun]:
    """Check all arguments before slow work.

    Args:
        paths: paths of bundles, or none.
        suites: suite files, or none.
        plan_name: name of one plan, or None for all.
        cache: cache folder, or None for the user's.
        options: options of the command line, which override the suites.
        environment: environment for all records.

    Raises:
        UsageError: an argument is wrong.
        BundleError: a path is not a bundle.
        MissingDependencyError: a library for making the subjects is missing.
    """
    only = options.pop("models")
    if not suites and (plan_name or only):
        raise UsageError("--plan and --model choose from a suite: name it with --suite")
    if not paths and not suites:
        raise UsageError("name a BUNDLE to measure, or a --suite of models")
    bundles: list[Bundle] = [Bundle.open(path) for path in paths]
    plans = _plans(suites, plan_name) if suites else {"command line": SuitePlan(precisions=())}
    given = read_options(options)
    plans = {name: replace(plan, **given) for name, plan in plans.items()}
    if not suites and "backends" not in given:
        here = backends_here(bundles)
        plans = {name: replace(plan, backends=here) for name, plan in plans.items()}
    if only:
        plans = _only(plans, only)
    for name, plan in plans.items():
        if not bundles and not plan.models:
            raise UsageError(f"plan [{name}] has no models: name a BUNDLE to measure")
        # Models without a bundle are exported, and baselines use literal weights.
        if not bundles or any(subject.is_baseline for subject in plan.subjects):
            require_extra("export")
    folder, by_name = cache or cache_folder() / "benchmarks", named(bundles)
    call = uuid.uuid4().hex[:12]
    return [
        SuiteRun(name, plan, by_name, folder, shell.say, environment, call)
        for name, plan in plans.items()
    ]


def _plans(suites: tuple[Path, ...], name: str | None) -> dict[str, SuitePlan]:
    """The plans of the suites, or one of them."""
    plans: dict[str, SuitePlan] = {}
    for suite in suites:
        own = read_suite(suite)
        if twice := plans.keys() & own.keys():
            raise UsageError(
                f"suite {str(suite)!r} has plan {twice.pop()!r}, which another suite has too; "
                "rename one"
            )
        plans |= own
    if name is None:
        return plans
    if name not in plans:
        files = ", ".join(repr(str(suite)) for suite in suites)
        raise UsageError(
            f"suite {files} has no plan {name!r}{nearest(name, plans)}; it has: {', '.join(plans)}"
        )
    return {name: plans[name]}


def _only(plans: dict[str, SuitePlan], names: tuple[str, ...]) -> dict[str, SuitePlan]:
    """Plans restricted to these models. Plans without any of them are dropped."""
    known = [model for plan in plans.values() for model in plan.models if isinstance(model, str)]
    wanted = chosen("model", names, tuple(dict.fromkeys(known)))
    kept = {
        name: replace(plan, models=tuple(model for model in plan.models if model in wanted))
        for name, plan in plans.items()
    }
    return {name: plan for name, plan in kept.items() if plan.models}
