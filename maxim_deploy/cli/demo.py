"""`maxim-deploy demo`: the whole way once, on a photograph that comes with the package."""

from __future__ import annotations

from pathlib import Path

import click

from maxim_deploy.cli import shell


@click.command("maxim-deploy demo")
@click.option(
    "-o",
    "--output",
    type=shell.PATH,
    required=True,
    metavar="FOLDER",
    help="Folder for the bundle and the pictures; made if it is not there.",
)
@shell.common_options
def demo(output: Path) -> None:
    """Export the demo model and restore a noisy photograph with it.

    Writes the bundle, the noisy and the restored picture, and a before/after picture, and says how
    many dB were gained.
    """
    from maxim_deploy._optional import require_extra

    require_extra("export")
    require_extra("cpu")

    import numpy as np

    from maxim_deploy import runtime
    from maxim_deploy.checkpoints import open_model
    from maxim_deploy.export import export_bundle
    from maxim_deploy.hosts.sample import noisy_photograph
    from maxim_deploy.imaging.files import write_image
    from maxim_deploy.parity import psnr
    from maxim_deploy.spec.models import DEMO

    bundle = output / DEMO
    with shell.report_progress() as progress:
        export_bundle(open_model(DEMO), bundle, command="maxim-deploy demo", progress=progress)

    clean, noisy = noisy_photograph()
    with runtime.load(bundle) as restorer:
        restored = restorer(noisy)

    pictures = {
        "noisy.png": noisy,
        "restored.png": restored,
        "before-after.png": np.concatenate([noisy, restored], axis=1),
    }
    shell.emit(str(bundle))
    for name, picture in pictures.items():
        write_image(output / name, picture)
        shell.emit(str(output / name))
    before, after = (psnr(picture, clean, peak=255) for picture in (noisy, restored))
    shell.say(f"{before:.2f} dB -> {after:.2f} dB: {after - before:.2f} dB gained")
