"""The models that are known by name: eleven published ones, and the demo of this package.

PSNR in dB and SSIM are those of the authors' table in arXiv 2201.02973.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from maxim_deploy.errors import UsageError, nearest

BUCKET_URL: Final = "https://storage.googleapis.com/gresearch/maxim/ckpt"
"""The authors' public bucket. A checkpoint is at `<Task>/<Dataset>/checkpoint.npz` below it."""

DEMO: Final = "demo-denoise"
"""A small model that we trained and ship in the package. It is not a published model."""


@dataclass(frozen=True)
class PublishedModel:
    """A checkpoint that the authors published.

    Attributes:
        name: name that users type.
        task: denoising, deblurring, deraining, dehazing or enhancement.
        dataset: data set of training and evaluation.
        variant: the paper's name of the architecture.
        folder: folder below `BUCKET_URL`.
        psnr: published PSNR in dB (for Rain13k the mean of five test sets).
        ssim: published SSIM.
    """

    name: str
    task: str
    dataset: str
    variant: str
    folder: str
    psnr: float
    ssim: float

    @property
    def url(self) -> str:
        """Where the authors host the checkpoint."""
        return f"{BUCKET_URL}/{self.folder}/checkpoint.npz"

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the checkpoint, 64 hexadecimal digits; None if it is not in the table."""
        return SHA256_OF_CHECKPOINTS.get(self.name)


_TABLE = (
    # name, task, data set, variant, folder, PSNR, SSIM
    ("denoising-sidd", "denoising", "SIDD", "S-3", "Denoising/SIDD", 39.96, 0.960),
    ("deblurring-gopro", "deblurring", "GoPro", "S-3", "Deblurring/GoPro", 32.86, 0.961),
    ("deblurring-reds", "deblurring", "REDS", "S-3", "Deblurring/REDS", 28.93, 0.865),
    ("deblurring-realblur-r", "deblurring", "RealBlur-R", "S-3", "Deblurring/RealBlur_R", 39.45, 0.962),
    ("deblurring-realblur-j", "deblurring", "RealBlur-J", "S-3", "Deblurring/RealBlur_J", 32.84, 0.935),
    ("deraining-rain13k", "deraining", "Rain13k", "S-2", "Deraining/Rain13k", 33.24, 0.933),
    ("deraining-raindrop", "deraining", "Raindrop", "S-2", "Deraining/Raindrop", 31.87, 0.935),
    ("dehazing-sots-indoor", "dehazing", "RESIDE-Indoor", "S-2", "Dehazing/SOTS-Indoor", 38.11, 0.991),
    ("dehazing-sots-outdoor", "dehazing", "RESIDE-Outdoor", "S-2", "Dehazing/SOTS-Outdoor", 34.19, 0.985),
    ("enhancement-lol", "enhancement", "LOL", "S-2", "Enhancement/LOL", 23.43, 0.863),
    ("enhancement-fivek", "enhancement", "FiveK", "S-2", "Enhancement/FiveK", 26.15, 0.945),
)  # fmt: skip

SHA256_OF_CHECKPOINTS: dict[str, str] = {}
"""SHA-256 by model. The authors publish none. Add a line once two people have downloaded the file
on different days and networks with equal results. Downloads are then compared with it."""

PUBLISHED = {row[0]: PublishedModel(*row) for row in _TABLE}
"""The published models by name."""

MODEL_NAMES = (DEMO, *PUBLISHED)
"""Every name that `maxim-export` takes."""


def check_model_name(name: str) -> str:
    """`name` itself if it is known.

    Raises:
        UsageError: it is unknown; the message lists the known names.
    """
    if name not in MODEL_NAMES:
        advice = "For weights of your own, pass --checkpoint FILE."
        known = f"known: {', '.join(MODEL_NAMES)}"
        raise UsageError(f"unknown model {name!r}{_suggestion(name)}; {known}. {advice}")
    return name


def _suggestion(name: str) -> str:
    """A hint: the published model with a similar name, or those of the task or data set named."""
    word = name.casefold()
    # "denoise" and "denoiser" mean denoising; the first five letters tell the tasks apart.
    alike = [one for one in PUBLISHED if word and (one.startswith(word[:5]) or word in one)]
    listed = f" (did you mean {' or '.join(map(repr, alike))}?)" if alike else ""
    # A name with a hyphen is a model's; one without is a task's or a data set's.
    whole = nearest(name, MODEL_NAMES)
    return (whole or listed) if "-" in word else (listed or whole)
