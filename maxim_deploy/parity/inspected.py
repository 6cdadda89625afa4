"""Stages with accessible inner tensors: modules and graphs, and the matching of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxim_deploy._folders import read_whole
from maxim_deploy._optional import require
from maxim_deploy.errors import ExportError, UsageError, quoted
from maxim_deploy.parity.networks import module_of, precision_of, read_graph
from maxim_deploy.parity.points import points_of
from maxim_deploy.parity.probes import GraphProbe, ModuleProbe, Probe
from maxim_deploy.parity.stages import MODULES, split_name
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import MANIFEST
from maxim_deploy.spec.precision import FULL, PRECISIONS


@dataclass(frozen=True)
class InspectedNetwork:
    """A network with accessible inner tensors.

    Attributes:
        form: "literal", or the deployment form; tensors of one form are matched by
            their own names.
        precision: of the network.
        architecture: tells its points, and its blocks by their published names.
        probe: gives the tensors.
        graph: an `onnx_ir.Model`, or None for a module.
    """

    form: str
    precision: str
    architecture: Architecture
    probe: ModuleProbe | GraphProbe
    graph: Any = None


def inspect_stage(name: str, precision: str | None = None) -> InspectedNetwork:
    """The network of a stage's name; a low-precision graph is simulated in float32.

    Raises:
        UsageError: the stage has no tensors inside that can be seen.
        MaximDeployError: it cannot be opened.
    """
    path, stage = split_name(name)
    if (path / MANIFEST).is_file():
        wanted = stage or precision or FULL
        if found := read_whole(path, lambda: _of_bundle(Bundle.open(path), wanted)):
            return found
    elif path.suffix == ".onnx" and stage in ("", "simulated"):
        return _inspected(path, read_graph(path), None)
    elif stage in MODULES:
        return _module(path, stage)
    raise UsageError(
        f"stage {name!r} has no tensors to look at | expected BUNDLE:literal, :deployment, "
        f":{', :'.join(PRECISIONS)}, WEIGHTS:literal, WEIGHTS:deployment or GRAPH.onnx of the "
        "tensor form"
    )


def simulated_reference(full: InspectedNetwork, precision: str) -> Probe:
    """A new low-precision graph from a float32 one with the default table, simulated."""
    from maxim_deploy.graph.precision.convert import low_precision
    from maxim_deploy.graph.precision.defaults import default_table

    low = low_precision(full.graph, default_table(precision, full.graph.graph))
    return inspect_graph(low, full.architecture, full.form).probe


def inspect_module(module: Any, architecture: Architecture, form: str) -> InspectedNetwork:
    """A PyTorch module in memory, float32 on the CPU. `form` is that of `InspectedNetwork`."""
    probe = ModuleProbe(module, points_of(architecture), literal=form == "literal")
    return InspectedNetwork(form, FULL, architecture, probe)


def inspect_graph(model: Any, architecture: Architecture, form: str) -> InspectedNetwork:
    """A graph in memory, of the tensor form. `form` is that of `InspectedNetwork`."""
    points, precision = points_of(architecture), precision_of(model)
    probe = GraphProbe(model, points, literal=form == "literal", simulated=precision != FULL)
    return InspectedNetwork(form, precision, architecture, probe, model)


def _of_bundle(bundle: Bundle, stage: str) -> InspectedNetwork | None:
    """The network of a stage; None if the stage has no tensors inside that can be seen."""
    if stage in MODULES and bundle.manifest.source:
        with bundle.private(bundle.manifest.source) as folder:
            return _module(folder / bundle.manifest.source, stage)
    wanted, _, form = stage.partition(".")
    if wanted not in PRECISIONS or form not in ("", "simulated"):
        return None
    with bundle.private_graph(bundle.graph(wanted, "tensor")) as graph:
        model = require("onnx_ir", "bench").external_data.load_to_model(read_graph(graph))
        return _inspected(graph, model, bundle.manifest.architecture)


def _module(path: Path, form: str) -> InspectedNetwork:
    require("torch", "export")
    from maxim_deploy.checkpoints import read_checkpoint

    module, architecture = module_of(path, form), read_checkpoint(path).architecture
    return inspect_module(module, architecture, "literal" if form == "literal" else "cpu")


def _inspected(path: Path, model: Any, of_bundle: Architecture | None) -> InspectedNetwork:
    """The model that was read from a path, which is gone later."""
    try:
        architecture = _architecture_of(path, model.metadata_props, of_bundle)
        facts = model.metadata_props
        # Older graphs of the deployment form have the CPU's form without naming it.
        form = "literal" if facts["form"] == "literal" else facts.get("deployment_form", "cpu")
        return inspect_graph(model, architecture, form)
    except KeyError as error:
        raise ExportError(f"graph {quoted(path)} | lacks its {error}; export it again") from error


def _architecture_of(
    path: Path, facts: Mapping[str, str], of_bundle: Architecture | None
) -> Architecture:
    """The architecture that a graph's metadata name, or its bundle. Raises `KeyError`."""
    prefix = "architecture."
    named = {key.removeprefix(prefix): fact for key, fact in facts.items() if prefix in key}
    if not named and of_bundle:
        return of_bundle
    if not named and (path.parent / MANIFEST).is_file():
        return Bundle.open(path.parent).manifest.architecture
    return Architecture.from_json(named)
