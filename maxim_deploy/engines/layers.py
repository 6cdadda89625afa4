"""The layers of an engine, as the library lists them at the end of a detailed build.

What is kept beside the engine in `.layers.json`, UTF-8 JSON: a list of objects, one a line, with
the attributes of `Layer`. Files of earlier versions have no `inputs`, `outputs` and `constants`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from maxim_deploy._reading import load_json, read_bounded
from maxim_deploy.machine.tensorrt import readable_type
from maxim_deploy.spec.decoding import decoded
from maxim_deploy.spec.precision import PRECISIONS

_BYTES = {row.type: row.bytes for row in PRECISIONS.values()} | {
    "int64": 8, "int32": 4, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """A tensor that a layer reads or writes, or a part of one.

    Attributes:
        name: the library's; layers that name the same tensor share it.
        shape: its dimensions; -1 for one that a profile leaves open.
        type: such as "float16".
    """

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def bytes(self) -> int | None:
        """Its size; None if a dimension is open or the type unknown."""
        if -1 in self.shape or self.type not in _BYTES:
            return None
        return math.prod(self.shape) * _BYTES[self.type]


_TYPE_IN_FORMAT = re.compile(r"\b(FP\d+|BF16|U?INT\d+|BOOL|HALF|FLOAT)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """One layer after fusion.

    Attributes:
        name: the library's.
        kind: the library's word, such as "gemm" or "kgen" (a generated kernel).
        types: of its outputs, such as "float16"; empty for one that only synchronises.
        nodes: ONNX nodes that it came from, where the library says so.
        inputs: what it reads.
        outputs: what it writes.
        constants: what it has of the weights.
    """

    name: str
    kind: str
    types: tuple[str, ...]
    nodes: tuple[str, ...]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    constants: tuple[Tensor, ...] = ()


def layers_from_log(messages: Iterable[tuple[str, str]]) -> list[Layer]:
    """The layers that a detailed build listed; empty if it listed none."""
    for _, text in messages:
        # The builder writes all layers as one message, which a blank line ends.
        if re.match(r"\s*Layers?:\s*\n", text):
            lines = text.partition("\n\n")[0].splitlines()
            return [_from_line(line) for line in lines if line.startswith("Name: ")]
    return []


def _from_line(line: str) -> Layer:
    name, _, rest = line.removeprefix("Name: ").partition(", LayerType: ")
    kind, _, rest = rest.partition(", ")
    # Where one list ends the next begins: a bracket alone may be that of a tensor's dimensions.
    parts = re.split(r"(?:^|\], )(Inputs|Constants|Outputs|Tactic|Parameter)", rest)
    lists = dict(zip(parts[1::2], parts[2::2], strict=True))
    inputs, outputs, constants = (
        _tensors(lists.get(key, "")) for key in ("Inputs", "Outputs", "Constants")
    )
    types = tuple(dict.fromkeys(tensor.type for tensor in outputs))
    nodes = tuple(re.findall(r"\[ONNX Layer: ([^\]]+)\]", rest))
    return Layer(name, kind, types, nodes, inputs, outputs, constants)


_TENSOR = r"\{ Name: (.*?), (?:Location: \w+, )?Dimensions: \[([\d,-]*)\].*?Datatype: ([^,}]+)"


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name, tuple(map(int, filter(None, dims.split(",")))), _type(words))
        for name, dims, words in re.findall(_TENSOR, text)
    )


def _type(words: str) -> str:
    """A type is one word, or in the name of a format, as in "Channel major FP16 format"."""
    found = _TYPE_IN_FORMAT.search(words) or re.match(r"\w+", words.strip())
    return readable_type(found[0]) if found else ""


def layers_to_json(layers: Iterable[Layer]) -> str:
    """As kept beside an engine."""
    lines = ",\n".join(json.dumps(asdict(layer)) for layer in layers)
    return f"[\n{lines}\n]\n"


def layers_from_json(text: str) -> list[Layer]:
    """The inverse of `layers_to_json`; raises TypeError or ValueError."""
    layers: list[Layer] = decoded(list[Layer], load_json(text), "layers")
    return layers


def layers_beside(engine: Path) -> list[Layer]:
    """The list beside an engine; empty if the builder wrote none, or it is not ours."""
    try:
        return layers_from_json(read_bounded(engine.with_suffix(".layers.json")).decode("utf-8"))
    # Built without details, or the list was removed: nothing depends on it.
    except (OSError, TypeError, ValueError):
        return []
