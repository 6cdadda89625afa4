"""chaiNNer: a graph in one file per precision, for its node "Load Model" of ONNX.

chaiNNer takes float input of up to four channels. It tries shape inference with squares of 16, 64,
256 and 512 pixels, and pads pictures to a multiple of the first size that succeeds. With the planar
form none succeeds, so pictures are not padded.
"""

from __future__ import annotations

from pathlib import Path

from maxim_deploy.hosts.card import write_readme
from maxim_deploy.hosts.order import Order
from maxim_deploy.hosts.planar import write_planar
from maxim_deploy.spec.precision import FULL

USE = """\
1. In chaiNNer, open the dependency manager and install ONNX.
2. Add the node ONNX > Load Model and choose `{name}.{precision}.onnx`.
3. Add the node ONNX > Upscale Image, connect the model and a picture. The size stays the same.
4. Set its tile size to the largest that your memory takes, at best "No tiling": the network looks
   at the whole picture.

Precisions: {precisions}. On a processor choose {full}.
"""


def write(order: Order, folder: Path) -> None:
    """Write the graphs and a README."""
    name = order.model.name
    for precision in order.precisions:
        write_planar(order, precision, folder / f"{name}.{precision}.onnx")
    use = USE.format(
        name=name, full=FULL, precision=order.precisions[0], precisions=", ".join(order.precisions)
    )
    write_readme(order, folder, "Restoration of pictures in chaiNNer.", use)
