"""The Hub of Hugging Face: model card, licence, `onnx/` and weights, ready for upload.

The Hub reads the YAML header of `README.md`, and shows ONNX files from `onnx/`: `model.onnx` in
float32, `model_fp16.onnx` in half precision.
"""

from __future__ import annotations

from pathlib import Path

from maxim_deploy._files import write_text
from maxim_deploy.hosts.card import facts, write_licence
from maxim_deploy.hosts.order import Order
from maxim_deploy.hosts.planar import write_planar
from maxim_deploy.hosts.torch_weights import write_torch_weights
from maxim_deploy.spec.precision import FULL

CARD = """\
---
{head}
---

# {name}

MAXIM for {task}, as ONNX graphs that take pictures of any size, and as PyTorch weights.

| file | what it is |
|---|---|
{files}

## Use

    import numpy, onnxruntime, PIL.Image
    session = onnxruntime.InferenceSession("{first}")
    picture = numpy.asarray(PIL.Image.open("noisy.png").convert("RGB"))
    planes = picture.transpose(2, 0, 1)[numpy.newaxis].astype(numpy.float32) / 255
    (restored,) = session.run(None, {{"input": planes}})
    pixels = (restored[0].transpose(1, 2, 0) * 255).round().astype(numpy.uint8)
    PIL.Image.fromarray(pixels).save("restored.png")

`input` is float32 `[N, 3, H, W]` RGB in [0, 1], of any size; `output` is the same, clipped. The
weights load with [spandrel](https://github.com/chaiNNer-org/spandrel) and `maxim-spandrel`.

## Facts

{facts}"""

_USES = {FULL: "computes in float32", "fp16": "computes in float16, input and output are float32"}


def write(order: Order, folder: Path) -> None:
    """Write the card, licence, graphs and weights."""
    (folder / "onnx").mkdir()
    graphs = {
        precision: f"onnx/model{'' if precision == FULL else f'_{precision}'}.onnx"
        for precision in order.precisions
    }
    for precision, file in graphs.items():
        write_planar(order, precision, folder / file)
    write_torch_weights(order.weights, folder / "model.safetensors")
    rows = {file: _USES[precision] for precision, file in graphs.items()}
    rows["model.safetensors"] = "the weights under the names of the PyTorch module"
    card = CARD.format(
        head=_head(order),
        name=order.model.name,
        task=order.model.task or "image restoration",
        files="\n".join(f"| `{file}` | {what} |" for file, what in rows.items()),
        first=next(iter(graphs.values())),
        facts=facts(order),
    )
    write_text(folder / "README.md", card)
    write_licence(order, folder)


def _head(order: Order) -> str:
    """The keys that the Hub reads. An unknown licence is "other", with its file."""
    model = order.model
    lines = [f"license: {model.licence.lower() if model.licence else 'other'}"]
    if model.licence is None and order.licence is not None:
        lines += ["license_name: see-license", "license_link: LICENSE"]
    lines += ["pipeline_tag: image-to-image", "library_name: onnx", "tags:"]
    tags = ["maxim", "image-restoration", "onnx", *([model.task] if model.task else [])]
    return "\n".join(lines + [f"  - {tag}" for tag in tags])
