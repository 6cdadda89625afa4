"""Write weights with the names and layout of the PyTorch module, as safetensors."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy.checkpoints import Checkpoint, to_torch, torch_name
from maxim_deploy.checkpoints.safetensors_file import write_arrays


def write_torch_weights(checkpoint: Checkpoint, path: Path) -> None:
    """Write a float32 state dict of `maxim_deploy.model.Maxim` with the model's provenance.

    `read_checkpoint` returns an equal checkpoint.

    Raises:
        CheckpointError: the file cannot be written.
    """
    arrays = {torch_name(name): to_torch(name, one) for name, one in checkpoint.arrays.items()}
    write_arrays(path, arrays, checkpoint)
