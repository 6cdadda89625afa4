"""Which engine of a bundle Triton's tensorrt backend can run, and what it takes."""

from __future__ import annotations

from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.serving.triton.options import ModelOptions, Sizes
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.precision import GPU_PRECISIONS
from maxim_deploy.spec.profiles import Shape


def engine_for_triton(bundle: Bundle, options: ModelOptions) -> EngineEntry:
    """The newest engine of TensorRT in the best precision.

    Raises:
        BundleError: there is none that Triton can run; the message has the reasons.
    """
    wanted = GPU_PRECISIONS if options.precision == "auto" else (options.precision,)
    engines = bundle.manifest.engines
    of_tensorrt = [x for x in engines if x.library == "tensorrt" and x.precision in wanted]
    reasons = [f"{one.file}: {why}" for one in of_tensorrt for why in _faults(bundle, one)]
    for precision in wanted:
        fit = [x for x in of_tensorrt if x.precision == precision and not _faults(bundle, x)]
        if fit:
            return fit[-1]
    if any(one.library == "tensorrt-rtx" for one in engines):
        reasons.append(
            "Triton has no backend for engines of TensorRT for RTX: take --backend python for them"
        )
    raise BundleError(
        f"bundle {str(bundle.path)!r} has no {' or '.join(wanted)} engine of TensorRT that Triton "
        f"can run{''.join(f' | {reason}' for reason in reasons)} | build one: maxim-export "
        f"-o {bundle.path} --engine tensorrt --profile photo"
    )


def _faults(bundle: Bundle, engine: EngineEntry) -> list[str]:
    """Why Triton cannot run an engine of TensorRT."""
    faults = bundle.mismatches(engine)
    if engine.stripped:
        faults.append("it has no weights in it, and Triton cannot add them")
    if least := min(profile.min.batch for profile in engine.profiles) - 1:
        faults.append(f"it takes batches of at least {least + 1}, and Triton gives it single ones")
    return faults


def warmup_sizes(engine: EngineEntry, options: ModelOptions) -> Sizes:
    """Sizes to warm up with: those that its profiles are tuned for, unless told otherwise.

    Raises:
        UsageError: the engine does not take a size that was asked for.
    """
    if options.sizes is None:
        return tuned_sizes(engine)
    for height, width in options.sizes:
        if engine.profile_for(Shape(1, height, width)) is None:
            raise UsageError(
                f"--size {height}x{width} | the engine {engine.file!r} takes "
                f"{', '.join(map(str, engine.profiles))} | choose a size that it takes"
            )
    return options.sizes


def tuned_sizes(engine: EngineEntry) -> Sizes:
    """The sizes that the profiles of an engine are tuned for."""
    return tuple(dict.fromkeys((one.opt.height, one.opt.width) for one in engine.profiles))
