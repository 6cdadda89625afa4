"""The folder as ComfyUI finds it in `custom_nodes`: it registers MAXIM and brings one node."""

from .maxim_spandrel import register
from .maxim_spandrel.comfy import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

register()
