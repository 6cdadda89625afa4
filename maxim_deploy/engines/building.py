"""Build a serialized engine from a checked network."""

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
        plan: its bytes, in a buffer of the library.
        seconds: duration of the build.
        optimization_level: optimization level of the build.
    """

    plan: memoryview
    seconds: float
    optimization_level: int


class OutOfTimeError(EngineError):
    """A build was ended because it ran out of time."""


def build_engine(
    parsed: ParsedGraph,
    settings: EngineSettings,
    level: int | None = None,
    seconds: float | None = None,
    *,
    timing_cache: Any = None,
    progress: Callable[[BuildStep], None] = lambda _: None,
) -> BuiltEngine:
    """Build an engine. Afterwards `parsed.logger` has the library's messages.

    The build runs in its own thread, so Ctrl-C reaches the main thread at once. The build ends at
    its next step, which in TensorRT for RTX may be the last. Until then its memory stays in use,
    and the interpreter does not exit.

    Args:
        parsed: a checked network.
        settings: settings whose targets `check_targets` has accepted.
        level: optimization level, which overrides that of the settings.
        seconds: limit for the build; None for no limit.
        timing_cache: a `trt.ITimingCache` to use and extend, or None.
        progress: called with each step, in the builder's threads.

    Raises:
        UsageError: the library refuses a profile.
        OutOfTimeError: the build took longer than `seconds`.
        EngineError: the build failed.
    """
    level = settings.optimization_level if level is None else level
    config = builder_config(parsed, settings, level)
    # False: a cache measured on another device is refused.
    if timing_cache is not None and not config.set_timing_cache(timing_cache, False):
        raise EngineError(f"the timing cache does not fit: {failure(parsed.logger.messages)}")
    stop = Stop(seconds)
    monitor = config.progress_monitor = progress_monitor(parsed.trt, progress, stop)

    def work() -> Any:
        # All objects here, including `monitor`, must live until the builder's threads end.
        assert monitor
        return parsed.builder.build_serialized_network(parsed.network, config)

    started = time.monotonic()
    plan = _in_thread(work, stop.cancel)
    if plan is None and stop.out_of_time:
        raise OutOfTimeError(f"the build took longer than {seconds:.0f} s")
    if plan is None:
        raise EngineError(f"the build failed: {failure(parsed.logger.messages)}")
    # A view: an engine may have hundreds of megabytes and is only written to a file.
    return BuiltEngine(memoryview(plan), time.monotonic() - started, level)


def builder_config(parsed: ParsedGraph, settings: EngineSettings, level: int) -> Any:
    """A `trt.IBuilderConfig` with all settings and profiles.

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
    # TF32 is on by default in both libraries. A stripped engine is only refitted with the weights
    # it was built from, so the builder may specialise on them.
    wanted = {
        "TF32": settings.tf32,
        "STRIP_PLAN": settings.strip_weights,
        "REFIT_IDENTICAL": settings.strip_weights,
        "VERSION_COMPATIBLE": settings.version_compatible,
    }
    # TensorRT for RTX lacks the flags of features that it does not have.
    for name, on in wanted.items():
        if hasattr(flags, name):
            (config.set_flag if on else config.clear_flag)(getattr(flags, name))


def known_targets(trt: Any) -> dict[str, Any]:
    """The library's values of its compute capabilities, by name such as "8.9"."""
    return {
        f"{name[2:-1]}.{name[-1]}": value
        for name, value in trt.ComputeCapability.__members__.items()
        if name.startswith("SM") and name[2:].isdigit()
    }


def check_targets(trt: Any, targets: tuple[str, ...]) -> None:
    """Raise an error for a target that the library does not build for.

    Raises:
        UsageError: a target is unknown; the message has the library's list.
    """
    known = [*known_targets(trt), "current"]
    for target in targets:
        if target not in known:
            raise UsageError(
                f"TensorRT for RTX {trt.__version__} does not build for compute capability "
                f"{target}; choose from: {', '.join(known)}"
            )


def _set_targets(trt: Any, config: Any, targets: tuple[str, ...]) -> None:
    known = {**known_targets(trt), "current": trt.ComputeCapability.CURRENT}
    # Without targets the library builds its portable engine.
    if targets:
        config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(known[target], index)


def _add_profile(parsed: ParsedGraph, config: Any, profile: Any, io: str) -> None:
    """Add a profile and read it back, because a library may only log its refusal."""
    ours = parsed.builder.create_optimization_profile()
    shapes = [shape.dims(io) for shape in (profile.min, profile.opt, profile.max)]
    axes = tuple(parsed.network.get_input(0).shape)
    for dims in shapes:
        if any(axis not in (-1, size) for axis, size in zip(axes, dims, strict=True)):
            raise UsageError(f"profile {profile.name!r}: {dims} does not fit the input, {axes}")
    try:
        ours.set_shape("image", *shapes)
        read_back = [tuple(dims) for dims in ours.get_shape("image")]
        index = config.add_optimization_profile(ours)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"profile {profile.name!r}: {error}") from error
    if index < 0 or read_back != shapes:
        raise UsageError(
            f"profile {profile.name!r}: the library set {read_back} instead of {shapes} | "
            f"{failure(parsed.logger.messages)}"
        )


def _in_thread(work: Callable[[], Any], cancel: Callable[[], None]) -> Any:
    """Run `work` in a thread and return its result. An interrupt cancels it without waiting.

    `Thread.join` does not work here. If Ctrl-C interrupts it, CPython 3.11 treats the thread as
    ended, and exiting during a build crashes the interpreter. The interpreter waits for threads of
    a pool.
    """
    pool = ThreadPoolExecutor(1, "engine build")
    try:
        future = pool.submit(work)
        pool.shutdown(wait=False)
        return future.result()
    # Also for KeyboardInterrupt: otherwise the build would go on.
    except BaseException:
        cancel()
        raise
