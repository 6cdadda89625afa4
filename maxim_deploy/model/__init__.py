"""The literal MAXIM in PyTorch: what the published checkpoints define, and nothing rearranged.

Feature maps are channels-last, `[N, H, W, C]`, as in the checkpoints. Modules carry the published
parameter names: a path in an error message, a checkpoint and `named_modules()` is the same.
"""

from maxim_deploy.model.loading import module_from_checkpoint
from maxim_deploy.model.network import Maxim

__all__ = ["Maxim", "module_from_checkpoint"]
