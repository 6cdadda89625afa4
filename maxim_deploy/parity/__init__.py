"""Is the picture still the same? Metrics of restoration quality and of agreement."""

from maxim_deploy.parity.metrics import psnr

__all__ = ["psnr"]
