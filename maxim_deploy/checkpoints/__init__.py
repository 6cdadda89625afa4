"""Files of weights: published `.npz`, safetensors and PyTorch, downloads, and layouts.

It needs NumPy. safetensors and PyTorch are imported when one of their files is read.
"""

from __future__ import annotations

from maxim_deploy.checkpoints.architecture import architecture_from_shapes
from maxim_deploy.checkpoints.checkpoint import Checkpoint
from maxim_deploy.checkpoints.download import download
from maxim_deploy.checkpoints.known import demo_weights, licence_text, open_model
from maxim_deploy.checkpoints.layout import parameter_shapes
from maxim_deploy.checkpoints.reading import read_checkpoint, read_source
from maxim_deploy.checkpoints.safetensors_file import write_safetensors
from maxim_deploy.checkpoints.torch_layout import from_torch, to_torch, torch_name

__all__ = [
    "Checkpoint",
    "architecture_from_shapes",
    "demo_weights",
    "download",
    "from_torch",
    "licence_text",
    "open_model",
    "parameter_shapes",
    "read_checkpoint",
    "read_source",
    "to_torch",
    "torch_name",
    "write_safetensors",
]
