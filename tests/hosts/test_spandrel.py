"""Weights for spandrel, loaded by spandrel itself, and the node as ComfyUI finds it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import reference
import torch
from hosts.loading_spandrel import load_spandrel
from hosts.sizes import SIZES, TOLERANCE

from maxim_deploy.checkpoints import read_checkpoint
from maxim_deploy.checkpoints.checkpoint import Checkpoint
from maxim_deploy.hosts.torch_weights import write_torch_weights
from maxim_deploy.spec.architecture import VARIANTS, Architecture
from maxim_deploy.spec.descriptor import Descriptor

spandrel = load_spandrel()


@pytest.fixture(scope="module")
def node(write) -> Iterator[ModuleType]:
    """The package as ComfyUI imports a folder of `custom_nodes`: by path, under any name."""
    folder = write("comfyui") / "maxim-spandrel"
    spec = importlib.util.spec_from_file_location("custom_nodes_x_maxim", folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for name in [name for name in sys.modules if name.startswith(spec.name)]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def loaded(write, node: ModuleType) -> Any:
    return spandrel.ModelLoader().load_from_file(write("comfyui") / "demo-denoise.safetensors")


@pytest.mark.parametrize("size", SIZES)
def test_any_size(loaded: Any, expected, size: tuple[int, int]) -> None:
    image, restored = expected(size)
    with torch.inference_mode():
        found = loaded(torch.from_numpy(image.copy())[None])[0].numpy()
    assert np.abs(found - restored).max() <= TOLERANCE


def test_what_spandrel_is_told(loaded: Any) -> None:
    assert loaded.architecture.id == loaded.architecture.name == "MAXIM"
    assert loaded.tiling is spandrel.ModelTiling.DISCOURAGED
    assert (loaded.scale, loaded.input_channels, loaded.output_channels) == (1, 3, 3)
    assert loaded.size_requirements.none and not loaded.supports_half


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_variant_is_read_off_the_weights(node: ModuleType, variant: str) -> None:
    from maxim_deploy.model import Maxim

    with torch.device("meta"):
        state = Maxim(VARIANTS[variant]).state_dict()
    found = spandrel.MAIN_REGISTRY["MAXIM"]
    assert found.detect(state)
    others = [x for x in spandrel.MAIN_REGISTRY if x.architecture.id != "MAXIM"]
    assert not [x.architecture.id for x in others if x.detect(state)]
    with torch.device("meta"):
        assert found.architecture.load(state).tags == [variant]


def test_registered_once(node: ModuleType) -> None:
    node.register()
    ids = [support.architecture.id for support in spandrel.MAIN_REGISTRY]
    assert ids.count("MAXIM") == 1


def test_the_node_restores_a_batch_as_comfyui_holds_it(node, loaded, expected) -> None:
    image, restored = expected((37, 53))
    (kind,) = node.NODE_CLASS_MAPPINGS.values()
    assert node.NODE_DISPLAY_NAME_MAPPINGS.keys() == node.NODE_CLASS_MAPPINGS.keys()
    assert kind.INPUT_TYPES()["required"].keys() == {"model", "image"}
    batch = torch.from_numpy(np.stack([image, image]).transpose(0, 2, 3, 1).copy())
    (found,) = getattr(kind(), kind.FUNCTION)(model=loaded, image=batch)
    assert found.shape == batch.shape
    assert np.abs(found[1].numpy().transpose(2, 0, 1) - restored).max() <= TOLERANCE


def test_a_state_dict_is_the_same_checkpoint(tmp_path: Path) -> None:
    architecture = Architecture(features=4, stages=2, groups=1, bottleneck_blocks=1)
    arrays = reference.parameters(architecture)
    checkpoint = Checkpoint(arrays, architecture, Descriptor("tiny", task="denoising"))
    write_torch_weights(checkpoint, tmp_path / "tiny.safetensors")
    again = read_checkpoint(tmp_path / "tiny.safetensors")
    assert again.architecture == architecture and again.descriptor.task == "denoising"
    assert again.arrays.keys() == arrays.keys()
    assert all(np.array_equal(again.arrays[name], array) for name, array in arrays.items())
