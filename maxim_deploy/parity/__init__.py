"""Compare stages of the pipeline: metrics of quality and of agreement."""

from maxim_deploy.parity.metrics import luma, psnr, ssim

__all__ = ["luma", "psnr", "ssim"]
