"""The literal MAXIM in PyTorch, exactly as the published checkpoints define it.

Feature maps are channels-last, `[N, H, W, C]`, as in the checkpoints. Modules have the published
names, so error messages, checkpoints and `named_modules()` use the same paths.
"""

from maxim_deploy.model.loading import module_from_checkpoint
from maxim_deploy.model.network import Maxim

__all__ = ["Maxim", "module_from_checkpoint"]
