"""Build again at fixed sizes, only to count traffic.

A builder lists open dimensions as -1, so the list of an engine with ranges does not show its
traffic. At a fixed size the builder makes nearly the same layers and lists their dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from maxim_deploy.engines.engine_file import EngineJob, build_parsed, parsed_graph
from maxim_deploy.engines.layers import layers_from_log
from maxim_deploy.engines.messages import memory_figures
from maxim_deploy.engines.traffic import traffic_of
from maxim_deploy.errors import EngineError
from maxim_deploy.machine.tensorrt import ParsedGraph
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.profiles import Profile, Shape
from maxim_deploy.spec.traffic import Traffic


def count_traffic(job: EngineJob, entry: EngineEntry) -> list[Traffic]:
    """The traffic of each profile of an engine at its tuned size.

    The engine itself does not change. The job's budget does not apply to these builds.

    Raises:
        EngineError: a build failed, or listed no layers.
    """
    settings = replace(
        job.settings,
        optimization_level=entry.optimization_level,
        profiling_verbosity="detailed",
    )
    job = replace(job, settings=settings, options=replace(job.options, budget_s=None))
    parsed = parsed_graph(job)
    return [_counted(job, parsed, profile) for profile in entry.profiles]


def _counted(job: EngineJob, parsed: ParsedGraph, profile: Profile) -> Traffic:
    job.options.progress(f"building for {profile.opt} only to count its traffic")
    fixed = replace(profile, min=profile.opt, max=profile.opt)
    # All builds share one logger: earlier messages belong to other builds.
    before = len(parsed.logger.messages)
    build_parsed(replace(job, settings=replace(job.settings, profiles=(fixed,))), parsed)
    messages = parsed.logger.messages[before:]
    return traffic_from_log(messages, profile.opt)


def traffic_from_log(messages: Sequence[tuple[str, str]], shape: Shape) -> Traffic:
    """The traffic of an engine for one shape, by the messages of its build.

    Raises:
        EngineError: the library listed no layers.
    """
    layers = layers_from_log(messages)
    if not layers:
        raise EngineError(
            "the library lists no layers, so traffic cannot be counted | omit --traffic or "
            "--rewrites"
        )
    return traffic_of(layers, shape, memory_figures(messages).get("activation_bytes"))
