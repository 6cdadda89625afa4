"""Subjects of a comparison: backends on a bundle, and baselines from its literal weights."""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy._optional import require
from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.runtime.registry import graph_backend
from maxim_deploy.spec.precision import FULL, PRECISIONS
from maxim_deploy.spec.recipes import chosen

TORCH = ("torch", "torch-compile")
"""Baselines that run the literal module."""

LITERAL, NONE = "literal", "none"
"""Baselines that are float32 graphs: the plain export, and the deployment form without rewrites. A
rewrite's name selects the deployment form with only that rewrite."""

PLAIN = "plain"
"""The float32 graph of the bundle, without the form for ONNX Runtime on a CPU."""

RULES = ("gelus", "biases", "products", "norms")
"""Baselines that are the plain graph with a single rule of the form for ONNX Runtime."""

EACH = "each"
"""Selects every rewrite, each as a separate baseline."""


@dataclass(frozen=True)
class Subject:
    """A backend or a baseline with its precision."""

    name: str
    precision: str = FULL
    is_baseline: bool = False

    @property
    def is_graph(self) -> bool:
        """Whether it is a baseline that is a graph."""
        return self.is_baseline and self.name not in TORCH

    def runner(self, on_gpu: bool) -> str:
        """What runs it: a backend, "torch" or "torch-compile"."""
        if self.is_graph:
            return graph_backend(on_gpu=on_gpu).name
        return self.name

    def __str__(self) -> str:
        return self.name if self.precision == FULL else f"{self.name} {self.precision}"


def baseline_subjects(text: str) -> tuple[Subject, ...]:
    """The baselines that "torch", "torch fp16", "literal" or "each" stand for.

    Raises:
        UsageError: there is no such baseline.
        MissingDependencyError: it is a rewrite, and there is no PyTorch to make it with.
    """
    name, _, precision = text.partition(" ")
    (precision,) = chosen("precision", [precision or FULL], PRECISIONS)
    if name not in TORCH and precision != FULL:
        raise UsageError(f"baseline {text!r}: {name} exists in {FULL} only")
    own = (*TORCH, LITERAL, NONE, PLAIN, *RULES)
    if name in own:
        return (Subject(name, precision, is_baseline=True),)
    rewrites = _rewrites()
    check_known("baseline", name, (*own, EACH, *rewrites))
    names = rewrites if name == EACH else (name,)
    return tuple(Subject(one, precision, is_baseline=True) for one in names)


def _rewrites() -> tuple[str, ...]:
    require("torch", "export")
    from maxim_deploy.export.deployment import REWRITES

    return REWRITES
