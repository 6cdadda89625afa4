"""From a checked network to a serialized engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from maxim_deploy.engines.build_monitor import BuildStep, Stop, progress_monitor
from maxim_deploy.engines.messages import failure
from maxim_deploy.errors import EngineError, UsageError
from maxim_deploy.machine.tensorrt import ParsedGraph
from maxim_deploy.spec.engine_libraries import is_portable
from maxim_deploy.spec.engine_settings import EngineSettings

_VERBOSITY = {"none": "NONE", "names": "LAYER_NAMES_ONLY", "detailed": "DETAILED"}


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine.

    Attributes:
        plan: its bytes, a buffer of the library's.
        seconds: time that the build took.
        optimization_level: that it was built at.
    """

    plan: memoryview
    seconds: float
    optimization_level: int


class OutOfTimeError(EngineError):
    """A build was ended because its time was up."""


def build_engine(
    parsed: ParsedGraph,
    settings: EngineSettings,
    level: int | None = None,
    seconds: float | None = None,
    *,
    timing_cache: Any = None,
    progress: Callable[[BuildStep], None] = lambda _: None,
) -> BuiltEngine:
    """Build; the library's messages are in `parsed.logger` afterwards.

    The build runs in a thread of its own, so that Ctrl-C reaches the main thread at once. The build
    itself ends at its next step, which in TensorRT for RTX may be its last; until then its memory
    is in use, and the interpreter does not exit.

    Args:
        parsed: a checked network.
        settings: how to build; `check_targets` has seen the targets.
        level: optimization level in place of that of the settings.
        seconds: end the build when it has taken this long; None for no limit.
        timing_cache: a `trt.ITimingCache` to use and extend, or None.
        progress: told about each step, from the builder's threads.

    Raises:
        UsageError: the library refuses a profile.
        OutOfTimeError: `seconds` were not enough.
        EngineError: the build failed.
    """
    level = settings.optimization_level if level is None else level
    config = builder_config(parsed, settings, level)
    # False: a cache that was measured on another device is refused rather than trusted.
    if timing_cache is not None and not config.set_timing_cache(timing_cache, False):
        raise EngineError(f"the timing cache does not fit: {failure(parsed.logger.messages)}")
    stop = Stop(seconds)
    monitor = config.progress_monitor = progress_monitor(parsed.trt, progress, stop)

    def work() -> Any:
        # `monitor` and all else here must live for as long as the builder's threads call it.
        assert monitor
        return parsed.builder.build_serialized_network(parsed.network, config)

    started = time.monotonic()
    plan = _in_thread(work, stop.cancel)
    if plan is None and stop.out_of_time:
        raise OutOfTimeError(f"the build was not done after {seconds:.0f} s")
    if plan is None:
        raise EngineError(f"the build failed: {failure(parsed.logger.messages)}")
    # A view: an engine has some hundred megabytes, and it is only written to a file.
    return BuiltEngine(memoryview(plan), time.monotonic() - started, level)


def builder_config(parsed: ParsedGraph, settings: EngineSettings, level: int) -> Any:
    """A `trt.IBuilderConfig` with everything that the settings ask for, profiles included.

    Raises:
        UsageError: the library refuses a profile.
    """
    trt, config = parsed.trt, parsed.builder.create_builder_config()
    config.builder_optimization_level = level
    config.max_aux_streams = settings.aux_streams
    config.profiling_verbosity = getattr(
        trt.ProfilingVerbosity, _VERBOSITY[settings.profiling_verbosity]
    )
    _set_flags(trt, config, settings)
    if settings.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
    if settings.hardware_compatibility != "none":
        levels = trt.HardwareCompatibilityLevel
        name = settings.hardware_compatibility.replace("-", "_").upper()
        config.hardware_compatibility_level = getattr(levels, name)
    if is_portable(settings.library):
        _set_targets(trt, config, settings.targets)
    for profile in settings.profiles:
        _add_profile(parsed, config, profile, settings.io)
    return config


def _set_flags(trt: Any, config: Any, settings: EngineSettings) -> None:
    flags = trt.BuilderFlag
    # TF32 is on by default in both libraries. A stripped engine is only ever refitted with the
    # weights that it was built from, so that the builder may still specialise on them.
    wanted = {
        "TF32": settings.tf32,
        "STRIP_PLAN": settings.strip_weights,
        "REFIT_IDENTICAL": settings.strip_weights,
        "VERSION_COMPATIBLE": settings.version_compatible,
    }
    # TensorRT for RTX has no flags for features that it lacks.
    for name, on in wanted.items():
        if hasattr(flags, name):
            (config.set_flag if on else config.clear_flag)(getattr(flags, name))


def known_targets(trt: Any) -> dict[str, Any]:
    """The compute capabilities that the library builds for, such as "8.9", as its own values."""
    return {
        f"{name[2:-1]}.{name[-1]}": value
        for name, value in trt.ComputeCapability.__members__.items()
        if name.startswith("SM") and name[2:].isdigit()
    }


def check_targets(trt: Any, targets: tuple[str, ...]) -> None:
    """Refuse a target that the library does not build for.

    Raises:
        UsageError: the message has the library's list.
    """
    known = [*known_targets(trt), "current"]
    for target in targets:
        if target not in known:
            raise UsageError(
                f"TensorRT for RTX {trt.__version__} builds nothing for compute capability "
                f"{target}; its list: {', '.join(known)}"
            )


def _set_targets(trt: Any, config: Any, targets: tuple[str, ...]) -> None:
    known = {**known_targets(trt), "current": trt.ComputeCapability.CURRENT}
    # Without targets the library makes its portable engine.
    if targets:
        config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(known[target], index)


def _add_profile(parsed: ParsedGraph, config: Any, profile: Any, io: str) -> None:
    """Add a profile and read it back: a library that will not take it may only log that."""
    ours = parsed.builder.create_optimization_profile()
    shapes = [shape.dims(io) for shape in (profile.min, profile.opt, profile.max)]
    axes = tuple(parsed.network.get_input(0).shape)
    for dims in shapes:
        if any(axis not in (-1, size) for axis, size in zip(axes, dims, strict=True)):
            raise UsageError(f"profile {profile.name!r}: {dims} is no shape of the input, {axes}")
    try:
        ours.set_shape("image", *shapes)
        read_back = [tuple(dims) for dims in ours.get_shape("image")]
        index = config.add_optimization_profile(ours)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"profile {profile.name!r}: {error}") from error
    if index < 0 or read_back != shapes:
        raise UsageError(
            f"profile {profile.name!r}: the library has {read_back} in place of {shapes} | "
            f"{failure(parsed.logger.messages)}"
        )


def _in_thread(work: Callable[[], Any], cancel: Callable[[], None]) -> Any:
    """The result of `work`, done in a thread; an interrupt cancels it and does not wait for it.

    `Thread.join` would not do: when Ctrl-C interrupts it, CPython 3.11 takes the thread for ended,
    and an interpreter that exits during a build crashes. It waits for the thread of a pool.
    """
    pool = ThreadPoolExecutor(1, "engine build")
    future = pool.submit(work)
    pool.shutdown(wait=False)
    try:
        return future.result()
    # KeyboardInterrupt as well, since nothing else would end the build.
    except BaseException:
        cancel()
        raise
