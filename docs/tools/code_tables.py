"""Tables that stand in the code: what files keep, limits, profiles, rewrites, settings."""

from __future__ import annotations

from pathlib import Path

from tables import angled, attributes_of, table

from maxim_deploy.accept.record import read_record
from maxim_deploy.accept.table import table_of
from maxim_deploy.export.deployment.rewrites import FORMS, Rewrites
from maxim_deploy.imaging import inventory
from maxim_deploy.imaging.video.inventory import VIDEOS
from maxim_deploy.parity.thresholds import THRESHOLDS
from maxim_deploy.spec.engine_settings import EngineSettings
from maxim_deploy.spec.profiles import PORTRAIT, PROFILE_NAMES, Shape, profile_from_spec

ACCEPTED = Path(__file__).parents[2] / "benchmarks" / "results" / "accepted"


def images() -> str:
    """What image files keep."""
    return inventory.table(inventory.IMAGES)


def videos() -> str:
    """What videos keep."""
    return inventory.table(VIDEOS)


def what_ran_where() -> str:
    """The steps that have passed, by machine."""
    return table_of([read_record(path) for path in sorted(ACCEPTED.glob("*.json"))])


def thresholds() -> str:
    """The named limits of a comparison."""
    rows = [
        (
            f"`{one.name}`",
            f"{one.max_error_levels:.3g}",
            "" if one.residual_error is None else f"{one.residual_error:g}",
            f"{one.psnr:g} dB",
            angled(one.seen),
        )
        for one in THRESHOLDS.values()
    ]
    heads = ("limit", "largest error, levels of 255", "share of what is added", "PSNR", "seen")
    return table(heads, rows)


def profiles() -> str:
    """The sizes of the named profiles."""
    names = [name for name in PROFILE_NAMES if not name.endswith(PORTRAIT)]
    found = [profile_from_spec(name, "image") for name in names]
    rows = [
        (f"`{one.name}`", *(_size(shape) for shape in (one.min, one.opt, one.max))) for one in found
    ]
    return table(("profile", "min", "tuned for", "max"), rows)


def _size(shape: Shape) -> str:
    batch = f", batch of {shape.batch}" if shape.batch > 1 else ""
    return f"{shape.height}x{shape.width}{batch}"


def rewrites() -> str:
    """Every rewrite, and the forms that use it."""
    rows = [
        (
            f"`{name}`",
            angled(said),
            *("yes" if getattr(form, name) else "" for form in FORMS.values()),
        )
        for name, said in attributes_of(Rewrites).items()
    ]
    return table(("rewrite", "what it does", *(f"`{form}`" for form in FORMS)), rows)


def engine_settings() -> str:
    """The keys of `[engine]` in a recipe."""
    keys = attributes_of(EngineSettings).items()
    return table(("key", "meaning"), [(f"`{key}`", angled(said)) for key, said in keys])
