"""The runtime for applications. It needs NumPy and one backend, never torch or onnx."""

from maxim_deploy.runtime.info import RestorerInfo
from maxim_deploy.runtime.loading import load
from maxim_deploy.runtime.plan import Plan
from maxim_deploy.runtime.progress import RunProgress
from maxim_deploy.runtime.restoration import Restoration
from maxim_deploy.runtime.restorer import Restorer

__all__ = ["Plan", "Restoration", "Restorer", "RestorerInfo", "RunProgress", "load"]
