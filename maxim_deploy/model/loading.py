"""Make a module from a checkpoint's arrays."""

from __future__ import annotations

import torch

from maxim_deploy.checkpoints import Checkpoint, to_torch, torch_name
from maxim_deploy.model.network import Maxim


def module_from_checkpoint(checkpoint: Checkpoint) -> Maxim:
    """The network with a checkpoint's weights: float32, on the CPU, in evaluation mode.

    Every parameter comes from the checkpoint. None is initialised at random first.
    """
    # Parameters without memory, which those of the checkpoint replace.
    with torch.device("meta"):
        module = Maxim(checkpoint.architecture)
    state = {
        torch_name(path): torch.from_numpy(to_torch(path, array))
        for path, array in checkpoint.arrays.items()
    }
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)
