"""Is the picture still the same? Metrics of restoration quality and of agreement."""

from maxim_deploy.parity.metrics import luma, psnr, ssim

__all__ = ["luma", "psnr", "ssim"]
