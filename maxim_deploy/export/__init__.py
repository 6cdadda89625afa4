"""Export a checkpoint to a bundle: trace with torch, check with ONNX Runtime."""

from maxim_deploy.export.bundle import export_bundle
from maxim_deploy.export.deployment import FORMS, DeploymentMaxim, Rewrites
from maxim_deploy.export.settings import BundleSettings
from maxim_deploy.export.tracing import onnx_from_module

__all__ = [
    "FORMS",
    "BundleSettings",
    "DeploymentMaxim",
    "Rewrites",
    "export_bundle",
    "onnx_from_module",
]
