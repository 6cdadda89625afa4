"""Stages that can be looked into: modules and graphs, and how their tensors are matched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.parity.networks import module_of, precision_of, read_graph
from maxim_deploy.parity.points import Point, points_of
from maxim_deploy.parity.probes import GraphProbe, ModuleProbe
from maxim_deploy.parity.stages import MODULES, split_name
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.manifest import MANIFEST, Bundle
from maxim_deploy.spec.precision import FULL, PRECISIONS


@dataclass(frozen=True)
class InspectedStage:
    """A network whose tensors can be looked at.

    Attributes:
        form: "literal" or "deployment"; tensors of one form are matched by their own names.
        precision: of the network.
        probe: gives the tensors.
        points: of its architecture.
        graph: an `onnx_ir.Model`, or None for a module.
    """

    form: str
    precision: str
    probe: ModuleProbe | GraphProbe
    points: list[Point]
    graph: Any = None


def open_subject(name: str, precision: str | None = None) -> InspectedStage:
    """The subject of a stage's name; a low-precision graph as its float32 twin, on any machine.

    Raises:
        UsageError: the stage has no tensors inside that can be seen.
        MaximDeployError: it cannot be opened.
    """
    path, stage = split_name(name)
    if (path / MANIFEST).is_file():
        bundle, stage = Bundle.open(path), stage or precision or FULL
        if stage in MODULES and bundle.manifest.source:
            return _module(bundle.checked(bundle.manifest.source), stage)
        wanted, _, form = stage.partition(".")
        if wanted in PRECISIONS and form in ("", "twin"):
            return _graph(bundle.checked_graph(bundle.graph(wanted, "tensor")))
    elif path.suffix == ".onnx" and stage in ("", "twin"):
        return _graph(path)
    elif stage in MODULES:
        return _module(path, stage)
    raise UsageError(
        f"stage {name!r} has no tensors to look at | expected BUNDLE:literal, :deployment, "
        f":{', :'.join(PRECISIONS)}, WEIGHTS:literal, WEIGHTS:deployment or GRAPH.onnx of the "
        "tensor form"
    )


def reference_twin(full: InspectedStage, precision: str) -> GraphProbe:
    """The twin of a low-precision graph made anew from a float32 one, with the default table."""
    from maxim_deploy.graph.precision import default_table, low_precision

    low = low_precision(full.graph, default_table(precision))
    return GraphProbe(low, full.points, literal=full.form == "literal", twin=True)


def subject_of_module(module: Any, architecture: Architecture, form: str) -> InspectedStage:
    """A PyTorch module that is in memory, float32 on the CPU; `form` as in `InspectedStage`."""
    points = points_of(architecture)
    return InspectedStage(
        form, FULL, ModuleProbe(module, points, literal=form == "literal"), points
    )


def subject_of_graph(model: Any, architecture: Architecture, form: str) -> InspectedStage:
    """A graph that is in memory, of the tensor form; `form` as in `InspectedStage`."""
    points, precision = points_of(architecture), precision_of(model)
    probe = GraphProbe(model, points, literal=form == "literal", twin=precision != FULL)
    return InspectedStage(form, precision, probe, points, model)


def _module(path: Path, form: str) -> InspectedStage:
    require("torch", "export")
    from maxim_deploy.checkpoints import read_checkpoint

    architecture = read_checkpoint(path).architecture
    return subject_of_module(module_of(path, form), architecture, form)


def _graph(path: Path) -> InspectedStage:
    require("onnx", "export")
    model = read_graph(path)
    facts = model.metadata_props
    sizes = {
        name: int(number)
        for name, number in re.findall(r"([a-z]+(?: blocks)?) (\d+)", facts.get("architecture", ""))
    }
    try:
        architecture = Architecture(
            sizes["features"], sizes["stages"], sizes["groups"], sizes["bottleneck blocks"]
        )
        form = facts["form"]
    except KeyError as error:
        raise ExportError(f"graph '{path}' | does not say its {error}; export it anew") from error
    return subject_of_graph(model, architecture, form)
