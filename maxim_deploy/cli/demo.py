"""`maxim-deploy demo`: the whole way once, on a photograph that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from maxim_deploy.cli import shell

if TYPE_CHECKING:
    from maxim_deploy.benchmarks.report.pictures import BeforeAfter
    from maxim_deploy.runtime import Restorer

ABOUT = (
    "The demo model removes noise from pictures that were not compressed. A camera's JPEG turns "
    "noise into blocks and colour stains, which the model has not learned, so it gains much less "
    "there. For your own photographs, export a published model such as denoising-sidd."
)
"""What the model is for, in the page and in the terminal."""


@click.command("maxim-deploy demo")
@click.option(
    "-o",
    "--output",
    type=shell.PATH,
    required=True,
    metavar="FOLDER",
    help="Folder for the bundle and the pictures. It is made if it does not exist.",
)
@shell.common_options
def demo(output: Path) -> None:
    """Export the demo model and restore a noisy photograph with it.

    Writes the bundle, the sample as noisy.png and noisy.jpg, both restored, before-after.png, and
    report.html with the numbers. Prints the path of each.
    """
    from maxim_deploy._optional import require_extra

    require_extra("export")
    require_extra("cpu")

    from maxim_deploy import runtime
    from maxim_deploy.benchmarks.report.demo import write_demo_page
    from maxim_deploy.checkpoints import open_model
    from maxim_deploy.export import export_bundle
    from maxim_deploy.spec.models import DEMO

    bundle = output / DEMO
    with shell.report_progress() as progress:
        export_bundle(open_model(DEMO), bundle, command="maxim-deploy demo", progress=progress)
    with runtime.load(bundle) as restorer:
        results = _restored(output, restorer)
    commands = (
        f"maxim-run {bundle} {output / 'noisy.png'} -o again.png",
        "maxim-export denoising-sidd -o sidd && maxim-run sidd photo.jpg -o restored.png",
    )
    for result in results:
        shell.say(f"{result.name}: {result.quality}")
    shell.say(ABOUT)
    write_demo_page(output / "report.html", ABOUT, results, commands)
    # The last two lines are what to look at.
    for path in (bundle, *_files(output), output / "before-after.png", output / "report.html"):
        shell.emit(str(path))


def _files(output: Path) -> list[Path]:
    names = ("noisy.png", "restored.png", "noisy.jpg", "restored-from-jpeg.png")
    return [output / name for name in names]


def _restored(output: Path, restorer: Restorer) -> list[BeforeAfter]:
    """Write the sample, plain and as JPEG, and both restored."""
    import numpy as np

    from maxim_deploy.benchmarks.report.pictures import BeforeAfter
    from maxim_deploy.hosts.sample import SIGMA, as_camera_jpeg, noisy_photograph
    from maxim_deploy.imaging.files import read_image, write_image

    clean, noisy = noisy_photograph()
    plain, restored, jpeg, from_jpeg = _files(output)
    write_image(plain, noisy)
    jpeg.write_bytes(as_camera_jpeg(noisy))
    compressed = read_image(jpeg).rgb
    after, after_jpeg = restorer(noisy), restorer(compressed)
    write_image(restored, after)
    write_image(from_jpeg, after_jpeg)
    write_image(output / "before-after.png", np.concatenate([noisy, after], axis=1))
    noise = f"Gaussian noise of {SIGMA} levels of 255"
    return [
        BeforeAfter("Noise", noisy, after, clean, f"{noise}, which the model was trained for."),
        BeforeAfter(
            "The same noise after JPEG",
            compressed,
            after_jpeg,
            clean,
            f"{noise}, then saved as a camera saves JPEG, which the model was not trained for.",
        ),
    ]
