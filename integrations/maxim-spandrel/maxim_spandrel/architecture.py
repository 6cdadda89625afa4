"""The architecture that spandrel's registry gets: detection, loading and padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
)
from spandrel.util import KeyCondition
from torch import Tensor

from maxim_deploy.checkpoints import architecture_from_shapes
from maxim_deploy.imaging import Padding
from maxim_deploy.model import Maxim

ID = "MAXIM"


class MaximArchitecture(Architecture[Maxim]):
    """MAXIM of any size: S-1 to S-3, M-1 to M-3, and others, read off the weights."""

    def __init__(self) -> None:
        super().__init__(
            id=ID,
            detect=KeyCondition.has_all(
                "stage_0_input_conv_0.bias",
                "stage_0_encoder_block_0.SplitHeadMultiAxisGmlpLayer_0.in_project.weight",
            ),
        )

    def load(self, state_dict: Mapping[str, Any]) -> ImageModelDescriptor[Maxim]:
        """A descriptor of the network with these weights."""
        shapes = {name.replace(".", "/"): tuple(one.shape) for name, one in state_dict.items()}
        architecture = architecture_from_shapes(shapes)
        variant = architecture.variant
        return ImageModelDescriptor(
            Maxim(architecture),
            state_dict,
            architecture=self,
            purpose="Restoration",
            tags=[variant] if variant else [f"{architecture.features}nf"],
            # In float16 sums over a picture overflow; bfloat16 has the range of float32.
            supports_half=False,
            supports_bfloat16=True,
            scale=1,
            input_channels=3,
            output_channels=3,
            # Channel attention and the grid branch look at the whole picture.
            tiling=ModelTiling.DISCOURAGED,
            call_fn=restore,
        )


def restore(model: Maxim, image: Tensor) -> Tensor:
    """Restore pictures of any size, with the padding of the published evaluation.

    Args:
        model: the network.
        image: `[N, 3, H, W]` RGB in [0, 1].

    Returns:
        The same shape and type, not clipped; spandrel's descriptor clips.
    """
    padding = Padding(*image.shape[2:])
    rows, columns = (torch.from_numpy(one).to(image.device) for one in padding.sources)
    padded = image[:, :, rows][:, :, :, columns]
    return model(padded)[:, :, *padding.crop]


def register() -> None:
    """Add MAXIM to spandrel's registry; again does nothing."""
    if ID not in MAIN_REGISTRY:
        MAIN_REGISTRY.add(ArchSupport.from_architecture(MaximArchitecture()))
