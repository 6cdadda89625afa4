"""The node of ComfyUI that restores pictures whole; ComfyUI's own runs them in tiles."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor


class MaximRestoreImage:
    """Restore pictures with a model that "Load Upscale Model" has loaded."""

    CATEGORY = "image/restoration"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "restore"
    INPUTS: ClassVar = {"model": ("UPSCALE_MODEL",), "image": ("IMAGE",)}

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the name is ComfyUI's
        """What the node is connected to."""
        return {"required": cls.INPUTS}

    def restore(self, model: Any, image: Tensor) -> tuple[Tensor]:
        """One picture after the other, each whole.

        Args:
            model: spandrel's descriptor.
            image: float32 `[N, H, W, 3]` in [0, 1], as ComfyUI has them.

        Returns:
            The same shape, clipped to [0, 1], on the processor.
        """
        device = _device()
        model.to(device)
        try:
            with torch.inference_mode():
                planes = image[..., :3].movedim(-1, 1)
                restored = [model(one[None].to(device)).float().cpu() for one in planes]
        finally:
            model.to("cpu")
        return (torch.cat(restored).movedim(1, -1),)


def _device() -> torch.device:
    """Where ComfyUI computes; the processor outside of ComfyUI."""
    try:
        from comfy import model_management
    except ImportError:
        return torch.device("cpu")
    device: torch.device = model_management.get_torch_device()
    return device


NODE_CLASS_MAPPINGS = {"MaximRestoreImage": MaximRestoreImage}
NODE_DISPLAY_NAME_MAPPINGS = {"MaximRestoreImage": "Restore Image (MAXIM)"}
