"""The whole network against the measured reference."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch

from maxim_deploy.checkpoints import parameter_shapes, torch_name
from maxim_deploy.errors import UsageError
from maxim_deploy.model import Maxim, module_from_checkpoint
from maxim_deploy.spec.architecture import VARIANTS, Architecture

SMALL = Architecture(features=8, stages=2, groups=1, bottleneck_blocks=1)


@pytest.mark.parametrize("variant", reference.CASES)
def test_reference_parameters_come_out_bit_for_bit(variant: str) -> None:
    assert reference.digest(reference.checkpoint(variant).arrays) == reference.DIGESTS[variant]


@pytest.mark.parametrize(
    ("variant", "case"), [(v, case) for v, cases in reference.CASES.items() for case in cases]
)
def test_outputs(variant: str, case: str, record_property) -> None:
    """All cases; all stages and scales where they are given."""
    module = module_from_checkpoint(reference.checkpoint(variant))
    data = reference.load(case)
    image = torch.from_numpy(reference.network_input(data))
    outputs = module.all_outputs(image)
    expected = {"output": outputs[-1][-1]}
    for stage, scales in enumerate(outputs):
        expected |= {f"stage{stage}_scale{k}": image for k, image in enumerate(scales)}
    errors = {
        name: np.abs(found.permute(0, 2, 3, 1).numpy() - data[name]).max()
        for name, found in expected.items()
        if name in data
    }
    record_property("max_errors", errors)
    assert "output" in errors and (variant != "S-2" or len(errors) == 7)
    assert max(errors.values()) <= reference.TOLERANCE, errors
    assert torch.equal(module(image), outputs[-1][-1])


def test_blocks() -> None:
    """Every top-level block of S-1, stored in float16: a departure shows where it begins."""
    module = module_from_checkpoint(reference.checkpoint("S-1"))
    stored = reference.load("blocks_S-1_n1_64x64")
    seen: dict[str, torch.Tensor] = {}

    def record(name: str):
        def hook(_module, _inputs, output) -> None:
            for k, tensor in enumerate(output if isinstance(output, tuple) else [output]):
                seen[f"{name}.{k}" if isinstance(output, tuple) else name] = tensor

        return hook

    for name, child in module.named_children():
        child.register_forward_hook(record(name))
    module(torch.from_numpy(reference.network_input(reference.load("S-1_n1_64x64"))))

    for name, expected in stored.items():
        half_step = np.spacing(np.abs(expected)).astype(np.float32) / 2
        error = np.abs(seen[name].numpy() - expected.astype(np.float32))
        # Features reach 10 and round in float32 ten times as coarsely as an image: 1.8e-5 seen.
        assert (error <= half_step + 3 * reference.TOLERANCE).all(), name


def test_parameters_are_the_published_ones() -> None:
    for architecture in (*VARIANTS.values(), SMALL, Architecture(12, 3, 3, 1)):
        with torch.device("meta"):
            module = Maxim(architecture)
        names = {torch_name(path) for path in parameter_shapes(architecture)}
        assert set(module.state_dict()) == names


def test_batch_is_independent_images() -> None:
    module = module_from_checkpoint(reference.random_checkpoint(SMALL))
    images = torch.rand(3, 3, 64, 128)
    together = module(images)
    alone = torch.cat([module(image[None]) for image in images])
    assert (together - alone).abs().max() < reference.TOLERANCE


@pytest.mark.parametrize("size", [(64, 65), (32, 64), (100, 128)])
def test_refuses_sides_that_are_not_multiples_of_64(size: tuple[int, int]) -> None:
    module = module_from_checkpoint(reference.random_checkpoint(SMALL))
    with pytest.raises(UsageError, match=rf"multiples of 64, not {size[0]}x{size[1]}"):
        module(torch.rand(1, 3, *size))


def test_demo_model_agrees_with_the_reference() -> None:
    from maxim_deploy.checkpoints import open_model

    data = reference.load("demo_expected")
    module = module_from_checkpoint(open_model("demo-denoise"))
    image = torch.from_numpy(data["noisy"]).permute(0, 3, 1, 2)
    restored = module(image).permute(0, 2, 3, 1).numpy()
    assert np.abs(restored - data["restored"]).max() <= 2e-6
