"""The runtime that applications embed: NumPy and one backend, never torch or onnx."""

from maxim_deploy.runtime.restorer import Restorer, RestorerInfo, load

__all__ = ["Restorer", "RestorerInfo", "load"]
