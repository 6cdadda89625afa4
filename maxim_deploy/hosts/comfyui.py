"""ComfyUI and other programs with spandrel: weights, and a package for their architecture.

Spandrel recognises the network of a state dict by a registry of architectures, which lacks MAXIM.
The package `maxim-spandrel` adds it. As a folder in `custom_nodes`, ComfyUI imports the package.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from maxim_deploy.hosts.card import write_readme
from maxim_deploy.hosts.order import Order
from maxim_deploy.hosts.torch_weights import write_torch_weights

PACKAGE = "maxim-spandrel"

USE = """\
ComfyUI:

1. Copy `maxim-spandrel` into `ComfyUI/custom_nodes/`.
2. In its environment, run: `pip install -r ComfyUI/custom_nodes/maxim-spandrel/requirements.txt`
3. Copy `{file}` into `ComfyUI/models/upscale_models/`, and start ComfyUI again.
4. Add the nodes "Load Upscale Model" and "Restore Image (MAXIM)". The size stays the same.

ComfyUI's own node "Upscale Image (using Model)" works too, but in tiles of 512 pixels, and the
network looks at the whole picture.

Other programs on spandrel:

    pip install ./maxim-spandrel
    python -c "import maxim_spandrel, spandrel; maxim_spandrel.register(); \\
        print(spandrel.ModelLoader().load_from_file('{file}'))"
"""


def write(order: Order, folder: Path) -> None:
    """Write the weights, the package and a README."""
    file = f"{order.model.name}.safetensors"
    order.progress(f"writing {file}")
    write_torch_weights(order.weights, folder / file)
    built = shutil.ignore_patterns("__pycache__", "*.egg-info", "dist")
    shutil.copytree(package_folder(), folder / PACKAGE, ignore=built)
    about = "Restoration of pictures in ComfyUI, and in other programs on spandrel."
    write_readme(order, folder, about, USE.format(file=file))


def package_folder() -> Path:
    """The sources of `maxim-spandrel`, in a wheel's assets or in the checkout."""
    ours = Path(__file__).parents[1]
    inside = ours / "assets" / PACKAGE
    return inside if inside.exists() else ours.parent / "integrations" / PACKAGE
