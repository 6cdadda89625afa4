"""An ONNX graph from a PyTorch module, for every size at once."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx_ir as ir
import torch
from torch import nn
from torch.export import Dim

from maxim_deploy.graph.files import name_nodes
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.precision import TRACED_OPSET

EXAMPLE_SHAPE = (7, 3, 11 * MULTIPLE_OF, 13 * MULTIPLE_OF)
"""Not square, and odd factors that no constant of the network has: a size that was baked into the
graph can then be recognised, see `graph.checks.check_no_example_sizes`."""


def onnx_from_module(module: nn.Module, outputs: Sequence[str] = ("restored",)) -> ir.Model:
    """Trace a module from `image` float32 `[N, 3, H, W]`, with N free and H, W multiples of 64.

    Args:
        module: takes one image batch; returns one tensor per name in `outputs`.
        outputs: names of the graph's outputs.

    Returns:
        The graph at opset `TRACED_OPSET`; its nodes are named after the modules they come from.
    """
    sizes = {0: Dim("batch"), 2: MULTIPLE_OF * Dim("h"), 3: MULTIPLE_OF * Dim("w")}
    with _quiet():
        program = torch.onnx.export(
            module,
            (torch.zeros(EXAMPLE_SHAPE),),
            dynamo=True,
            opset_version=TRACED_OPSET,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_shapes=(sizes,),
            verbose=False,
        )
    assert program is not None  # only without dynamo
    name_nodes(program.model)
    return program.model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's remarks about itself (deprecations, absent torchvision) off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
