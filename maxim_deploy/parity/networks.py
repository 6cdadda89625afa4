"""Stages that run a network: PyTorch modules and ONNX graphs. Needs torch or onnx when called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._files import sha256_of, sha256_of_sources
from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, ExportError, UsageError, quoted
from maxim_deploy.imaging import Padding, from_unit, to_unit
from maxim_deploy.imaging.pixels import to_batch
from maxim_deploy.parity.comparison import Pixels
from maxim_deploy.parity.pictures import Sample
from maxim_deploy.parity.stage import Stage
from maxim_deploy.runtime.batching import restore_by_self_ensemble
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.precision import CPU_PRECISIONS, FULL, PRECISIONS, lower_of

Run = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass
class NetworkStage(Stage):
    """A network on padded pictures; `run` takes and gives float32 `[N, 3, H, W]`."""

    name: str
    precision: str
    run: Run
    facts: dict[str, Any]
    is_8bit: bool = False

    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """As `Stage.restore`."""
        image = to_unit(sample.pixels)
        padding = Padding(*image.shape[:2])
        # Padded in float32, before the network: stages then differ in the network alone, and not
        # in the order of padding and conversion.
        padded = padding.apply(image)

        def network(image: Pixels) -> Pixels:
            restored: Pixels = self.run(to_batch(image))[0].transpose(1, 2, 0)
            return restored

        restored = restore_by_self_ensemble(network, padded) if self_ensemble else network(padded)
        return padding.undo(restored)


@dataclass
class ImageGraphStage(Stage):
    """A graph of the image form; `run` takes and gives uint8 `[N, H, W, 3]`."""

    name: str
    precision: str
    run: Run
    facts: dict[str, Any]
    is_8bit: bool = True

    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """As `Stage.restore`."""
        if self_ensemble:
            raise UsageError(f"{self.name} takes 8 bits and makes no self-ensemble")
        # Through [0, 1] also for a picture of 8 bits: the way there and back is exact for each of
        # the 256 levels, and 16 bits and float32 take it too.
        pixels = from_unit(to_unit(sample.pixels), np.dtype(np.uint8))
        return to_unit(self.run(pixels[np.newaxis])[0])


def module_of(path: Path, form: str) -> Any:
    """The PyTorch module "literal" or "deployment" from a file of weights.

    Raises:
        MissingDependencyError: PyTorch is not installed.
        CheckpointError: the weights cannot be read.
    """
    # Inside the function: stages without PyTorch open where PyTorch is not installed.
    require("torch", "export")
    from maxim_deploy.checkpoints import read_checkpoint
    from maxim_deploy.export import DeploymentMaxim
    from maxim_deploy.model import module_from_checkpoint

    literal = module_from_checkpoint(read_checkpoint(path))
    return literal if form == "literal" else DeploymentMaxim(literal)


def traced_core(bundle: Bundle, form: str) -> tuple[Any, str]:
    """The float32 graph of a deployment form, from the bundle's literal weights.

    Args:
        bundle: with its literal weights.
        form: of `DEPLOYMENT_FORMS`.

    Returns:
        An `onnx_ir.Model` of the tensor form, and what identifies it.

    Raises:
        BundleError: the bundle has no literal weights, or they have changed.
        MissingDependencyError: PyTorch is not installed.
    """
    require("torch", "export")
    from maxim_deploy.checkpoints import read_source
    from maxim_deploy.export import FORMS, DeploymentMaxim, onnx_from_module
    from maxim_deploy.model import module_from_checkpoint

    checkpoint = read_source(bundle)
    core = onnx_from_module(DeploymentMaxim(module_from_checkpoint(checkpoint), FORMS[form]))
    rooms = (Path(__file__).parents[1] / room for room in ("model", "export"))
    return core, f"{checkpoint.descriptor.source_sha256} {form} {sha256_of_sources(*rooms)}"


def module_stage(name: str, path: Path, form: str) -> Stage:
    """A stage on the literal or the deployment module, float32 on the CPU."""
    module = module_of(path, form)
    import torch

    facts = {"form": form, "weights": path.name, "sha256": sha256_of(path)}
    facts["library"] = f"torch {torch.__version__}"
    return NetworkStage(name, FULL, network_of_module(module), facts)


def network_of_module(module: Any) -> Run:
    """A PyTorch module as a function on `[N, 3, H, W]`, float32 on the CPU."""
    import torch

    def run(batch: NDArray[Any]) -> NDArray[Any]:
        # Without a graph for gradients, which would keep every activation in memory.
        with torch.inference_mode():
            restored: NDArray[Any] = module(torch.from_numpy(batch)).numpy()
        return restored

    return run


def graph_stage(name: str, path: Path, *, simulated: bool) -> Stage:
    """A stage on an ONNX graph of either form, on ONNX Runtime's CPU provider.

    Args:
        name: of the stage.
        path: the graph; its weights file lies beside it.
        simulated: run it in float32, with every tensor rounded that it stores in low precision.

    Raises:
        MissingDependencyError: ONNX or ONNX Runtime is not installed.
        ExportError: the file is no graph, or not one of ours.
        BackendError: ONNX Runtime cannot load the graph.
    """
    model = read_graph(path)
    precision, weights = precision_of(model), _weights_files(model)
    if simulated:
        from maxim_deploy.graph.precision.simulated import simulated_in_float32

        model = simulated_in_float32(model)
    run = _opened(name, model)
    facts: dict[str, Any] = {
        "graph": path.name,
        "sha256": sha256_of(path),
        "precision": precision,
        "simulated": simulated,
        "twin": simulated,  # as older versions call it
    }
    facts["weights"] = {name: sha256_of(path.parent / name) for name in weights}
    facts["library"] = f"onnxruntime {require('onnxruntime', 'cpu').__version__}"
    is_image = model.graph.inputs[0].dtype.name == "UINT8"
    return (ImageGraphStage if is_image else NetworkStage)(name, precision, run, facts)


def read_graph(path: Path) -> Any:
    """An `onnx_ir.Model` from a file.

    Raises:
        ExportError: the file is no graph with an input `image` and an output `restored`.
    """
    require("onnx_ir", "bench")
    from maxim_deploy.graph.files import load_graph

    try:
        model = load_graph(path)
    except Exception as error:  # protobuf and onnx_ir raise nearly any type on other files
        raise ExportError(f"graph {quoted(path)} | cannot be read: {error}") from error
    names = ([v.name for v in model.graph.inputs], [v.name for v in model.graph.outputs])
    if names != (["image"], ["restored"]):
        raise ExportError(
            f"graph {quoted(path)} | has {names} | expected 'image' in, 'restored' out"
        )
    return model


def _weights_files(model: Any) -> list[str]:
    """Names of the files beside a graph that its weights lie in."""
    import onnx_ir as ir

    weights = (value.const_value for value in model.graph.initializers.values())
    files = (Path(one.location) for one in weights if isinstance(one, ir.ExternalTensor))
    return sorted({file.name for file in files})


def precision_of(model: Any) -> str:
    """The lowest precision in a graph, as we name it."""
    import onnx_ir as ir

    weights = {value.dtype for value in model.graph.initializers.values()}
    values = {value.dtype for node in model.graph for value in node.outputs}
    # Weights and values: a graph may keep its weights in float32 and cast them as it runs, or hold
    # low-precision weights that only feed float32 islands.
    have = [name for name, row in PRECISIONS.items() if ir.DataType(row.onnx) in weights | values]
    return lower_of(have or [FULL]).name


def _opened(name: str, model: Any) -> Run:
    from maxim_deploy.graph.precision.session import open_network

    try:
        return open_network(model)
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes
        if type(error).__module__.startswith("maxim_deploy"):
            raise
        hint = ""
        if (precision := precision_of(model)) not in CPU_PRECISIONS:
            low, dot = PRECISIONS[precision].type, ":" if name.endswith(".onnx") else "."
            hint = f" | a CPU runs hardly any {low} operator; compare {name}{dot}simulated"
        raise BackendError(
            f"stage {name!r} | ONNX Runtime cannot run it: {str(error)[:300]}{hint}"
        ) from error
