"""Stages that run a network: PyTorch modules and ONNX graphs. Needs torch or onnx when called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._files import sha256_of
from maxim_deploy._optional import require
from maxim_deploy.errors import BackendError, ExportError, UsageError
from maxim_deploy.imaging import Padding, from_unit, to_unit
from maxim_deploy.parity.comparison import Pixels
from maxim_deploy.parity.pictures import Sample
from maxim_deploy.parity.stage import Stage
from maxim_deploy.runtime.batching import Network, restore_by_self_ensemble
from maxim_deploy.spec.precision import CPU_PRECISIONS, FULL, PRECISIONS, lower_of


@dataclass
class NetworkStage:
    """A network on padded pictures."""

    name: str
    precision: str
    network: Network
    facts: dict[str, Any]
    is_8bit: bool = False

    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """As `Stage.restore`."""
        image = to_unit(sample.pixels)
        padding = Padding(*image.shape[:2])
        padded = padding.apply(image)
        restored = (
            restore_by_self_ensemble(self.network, padded)
            if self_ensemble
            else self.network(padded)
        )
        return padding.undo(restored)

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class ImageGraphStage:
    """A graph of the image form."""

    name: str
    precision: str
    run: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    facts: dict[str, Any]
    is_8bit: bool = True

    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """As `Stage.restore`."""
        if self_ensemble:
            raise UsageError(f"{self.name} takes 8 bits and makes no self-ensemble")
        pixels = from_unit(to_unit(sample.pixels), np.dtype(np.uint8))
        return to_unit(self.run(pixels[np.newaxis])[0])

    def close(self) -> None:
        """Nothing is held."""


def module_of(path: Path, form: str) -> Any:
    """The PyTorch module "literal" or "deployment" from a file of weights.

    Raises:
        MissingDependencyError: PyTorch is not installed.
        CheckpointError: the weights cannot be read.
    """
    require("torch", "export")
    from maxim_deploy.checkpoints import read_checkpoint
    from maxim_deploy.export import DeploymentMaxim
    from maxim_deploy.model import module_from_checkpoint

    literal = module_from_checkpoint(read_checkpoint(path))
    return literal if form == "literal" else DeploymentMaxim(literal)


def module_stage(name: str, path: Path, form: str) -> Stage:
    """A stage on the literal or the deployment module, float32 on the CPU."""
    module = module_of(path, form)
    import torch

    facts = {"form": form, "weights": path.name, "sha256": sha256_of(path)}
    facts["library"] = f"torch {torch.__version__}"
    return NetworkStage(name, FULL, network_of_module(module), facts)


def network_of_module(module: Any) -> Network:
    """A PyTorch module as a function on one padded picture."""
    import torch

    def run(image: Pixels) -> Pixels:
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[np.newaxis])
        with torch.inference_mode():
            restored: Pixels = module(batch)[0].permute(1, 2, 0).numpy()
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
        from maxim_deploy.graph.precision import simulated_in_float32

        model = simulated_in_float32(model)
    session = _session(name, model)
    facts: dict[str, Any] = {
        "graph": path.name,
        "sha256": sha256_of(path),
        "precision": precision,
        "simulated": simulated,
        "twin": simulated,  # as older versions call it
    }
    facts["weights"] = {name: sha256_of(path.parent / name) for name in weights}
    facts["library"] = f"onnxruntime {require('onnxruntime', 'cpu').__version__}"
    if session.get_inputs()[0].type == "tensor(uint8)":

        def on_bytes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
            restored: NDArray[np.uint8] = session.run(["restored"], {"image": images})[0]
            return restored

        return ImageGraphStage(name, precision, on_bytes, facts)

    def on_tensors(image: Pixels) -> Pixels:
        batch = np.ascontiguousarray(image.transpose(2, 0, 1))[np.newaxis]
        restored: Pixels = session.run(["restored"], {"image": batch})[0][0].transpose(1, 2, 0)
        return restored

    return NetworkStage(name, precision, on_tensors, facts)


def read_graph(path: Path) -> Any:
    """An `onnx_ir.Model` from a file.

    Raises:
        ExportError: the file is no graph with an input `image` and an output `restored`.
    """
    require("onnx_ir", "bench")
    import onnx_ir as ir

    try:
        model = ir.load(path)
    except Exception as error:  # protobuf and onnx_ir raise nearly any type on other files
        raise ExportError(f"graph '{path}' | cannot be read: {error}") from error
    names = ([v.name for v in model.graph.inputs], [v.name for v in model.graph.outputs])
    if names != (["image"], ["restored"]):
        raise ExportError(f"graph '{path}' | has {names} | expected 'image' in, 'restored' out")
    return model


def _weights_files(model: Any) -> list[str]:
    """Names of the files beside a graph that its weights lie in."""
    import onnx_ir as ir

    weights = (value.const_value for value in model.graph.initializers.values())
    return sorted({str(one.location) for one in weights if isinstance(one, ir.ExternalTensor)})


def precision_of(model: Any) -> str:
    """The lowest precision in a graph, as we name it."""
    import onnx_ir as ir

    weights = {value.dtype for value in model.graph.initializers.values()}
    values = {value.dtype for node in model.graph for value in node.outputs}
    have = [name for name, row in PRECISIONS.items() if ir.DataType(row.onnx) in weights | values]
    return lower_of(have or [FULL]).name


def _session(name: str, model: Any) -> Any:
    from maxim_deploy.graph.precision.session import open_session

    try:
        return open_session(model)
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
