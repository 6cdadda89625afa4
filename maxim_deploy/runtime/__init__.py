"""The runtime that applications embed: NumPy and one backend, never torch or onnx."""

from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.loading import load
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.restorer import Restorer

__all__ = ["Plan", "Restorer", "RestorerInfo", "load"]
