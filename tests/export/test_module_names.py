"""Names of the deployment form's modules, which node names and saved tables are made of."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import onnx
import reference
from torch import nn

from maxim_deploy.checkpoints import open_model
from maxim_deploy.export.deployment import DeploymentMaxim
from maxim_deploy.model import module_from_checkpoint
from maxim_deploy.spec.architecture import Architecture

TWO_STAGES = Architecture(features=8, stages=2, groups=1, bottleneck_blocks=1)

CHILDREN = {
    "DeploymentMaxim": "stages",
    "DeploymentStage": "bottleneck decoder encoder enlarge_decoded enlarge_deepest enlarge_gate "
    "fuse open_bottleneck open_decoder open_encoder open_skip output skip",
    "EncoderOpening": "down image matrix",
    "Encoder": "gate groups open_x open_y",
    "BottleneckOpening": "down",
    "Groups": "steps",
    "MultiAxis": "block grid halves norm out",
    "GatedBranch": "gate_norm halves mix norm",
    "ConvolutionalAttention": "attention conv1 conv2 norm",
    "DenseAttention": "attention first gelu norm second",
    "DeploymentChannelAttention": "excite squeeze",
    "Opening": "others own",
    "FromBelow": "enlarge matrix",
    "FromAbove": "matrix shrink",
    "Skip": "gate",
    "CrossGate": "gelu in_x in_y norm_x norm_y out_x out_y weights_x weights_y",
    "GatingWeights": "block grid halves norm out",
    "Fuse": "attended gate image",
    "Supervised": "attention features image",
    "Enlargement": "matrix",
    "Halves": "gelu parts",
    "MatrixOfParts": "parts",
}
"""Whoever changes one breaks precision tables that people have saved: their patterns match no node
any more. Give the release notes the old name and the new one."""


TRACERS_OWN = "_empty_nn_module_stack_from_metadata_hook"
"""What torch.export calls the module of a node that it added by itself."""


def test_names_of_modules() -> None:
    module = DeploymentMaxim(module_from_checkpoint(reference.random_checkpoint(TWO_STAGES)))
    found: dict[str, set[str]] = defaultdict(set)
    for one in module.modules():
        if not isinstance(one, nn.ModuleList | nn.ModuleDict):
            found[type(one).__name__] |= {name for name, _ in one.named_children()}
    assert {kind: " ".join(sorted(names)) for kind, names in found.items() if names} == CHILDREN


def test_nodes_are_named_after_modules(demo_bundle: Path) -> None:
    module = DeploymentMaxim(module_from_checkpoint(open_model("demo-denoise")))
    paths = {name.replace(".", "/") for name, _ in module.named_modules()}
    graph = onnx.load(demo_bundle / "fp32.tensor.onnx", load_external_data=False).graph
    seen = {node.name.rpartition("/")[0] for node in graph.node}
    assert seen - {TRACERS_OWN} <= paths
    blocks = {path.split("/")[2] for path in seen if path.count("/") > 1}
    assert blocks >= set(CHILDREN["DeploymentStage"].split()) - {"fuse"}  # of later stages
    assert all(node.name.rpartition("/")[2].startswith(f"{node.op_type}_") for node in graph.node)
