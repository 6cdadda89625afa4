"""Models to test: a bundle, or the demo model and a large network with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from maxim_deploy._progress import Progress
from maxim_deploy.machine.cache import cache_folder
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.models import DEMO
from maxim_deploy.spec.precision import DEFAULT_PRECISIONS

LARGE = "S-2"


@dataclass(frozen=True)
class Model:
    """A bundle to test.

    Attributes:
        name: name in the record.
        make: makes or finds the bundle; raises a `MaximDeployError`.
        is_large: whether to run only the short steps.
    """

    name: str
    make: Callable[[], Path]
    is_large: bool = False


def models_of(bundle: Path | None, with_large: bool, progress: Progress) -> list[Model]:
    """Return the given bundle, or the demo model and, on request, the large network.

    New bundles are kept in the cache folder.

    Raises:
        BundleError: the given folder is not a bundle.
    """
    if bundle is not None:
        return [Model(Bundle.open(bundle).manifest.model.name, lambda: bundle)]
    large = [Model(f"{LARGE} random", partial(_made, LARGE, progress), is_large=True)]
    return [Model(DEMO, partial(_made, DEMO, progress)), *(large if with_large else [])]


def _made(name: str, progress: Progress) -> Path:
    # Imported here: it needs PyTorch, and a machine that runs a bundle has none.
    from maxim_deploy.benchmarks.artifacts import model_bundle

    cache = cache_folder() / "accept"
    # Verification measures the memory of runs. For the large network it would take minutes.
    return model_bundle(name, DEFAULT_PRECISIONS, cache, progress, verify=name == DEMO).path
