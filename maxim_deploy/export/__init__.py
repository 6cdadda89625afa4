"""From a checkpoint to a bundle: tracing with torch, checking with ONNX Runtime."""

from maxim_deploy.export.bundle import BundleSettings, export_bundle
from maxim_deploy.export.tracing import onnx_from_module

__all__ = ["BundleSettings", "export_bundle", "onnx_from_module"]
