"""Trace a PyTorch module to an ONNX graph for every size."""

from __future__ import annotations

import contextlib
import gc
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules
from torch import nn
from torch.export import Dim

from maxim_deploy.graph.files import name_nodes
from maxim_deploy.spec.architecture import MULTIPLE_OF
from maxim_deploy.spec.precision import TRACED_OPSET

EXAMPLE_SHAPE = (7, 3, 11 * MULTIPLE_OF, 13 * MULTIPLE_OF)
"""It is not square and has odd factors that no constant of the network has. So a size that was
baked into the graph can be recognised, see `graph.checks.check_no_example_sizes`."""


def onnx_from_module(module: nn.Module, outputs: Sequence[str] = ("restored",)) -> ir.Model:
    """Trace a module on `image` float32 `[N, 3, H, W]`, with free N, and H and W multiples of 64.

    Args:
        module: takes a batch of images and returns a tensor per name in `outputs`.
        outputs: names of the graph's outputs.

    Returns:
        The graph at opset `TRACED_OPSET`. Nodes are named after their modules.
    """
    sizes = {0: Dim("batch"), 2: MULTIPLE_OF * Dim("h"), 3: MULTIPLE_OF * Dim("w")}
    with _quiet(), _collector_paused():
        program = torch.onnx.export(
            module,
            (torch.zeros(EXAMPLE_SHAPE),),
            dynamo=True,
            opset_version=TRACED_OPSET,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_shapes=(sizes,),
            verbose=False,
            optimize=False,
        )
        assert program is not None  # only without dynamo
        simplify(program.model)
    name_nodes(program.model)
    return program.model


_RULES = (
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.materialize_reshape_shape_rule,
    rules.squeeze_reshape_1d_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.remove_optional_bias_from_conv_rule,
)
"""The exporter's rules that apply to a MAXIM."""


def simplify(model: ir.Model) -> None:
    """Fold constants, and remove duplicate and useless nodes, in place.

    This is the exporter's optimisation with `_RULES` only. One of its other rules searches pairs of
    nodes, which visits the whole graph for every node and takes half of the time of S-2.
    """
    passes.InlinePass()(model)
    # A round may find new constants that the previous round made.
    for _ in range(2):
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.rewrite(model, _RULES)
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause Python's cyclic garbage collector.

    A trace makes millions of objects, and nearly all stay alive. Scanning them repeatedly takes a
    quarter of the time of S-1, and more with larger networks.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the tracer's remarks about itself, such as deprecations and a missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
