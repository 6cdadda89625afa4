"""The layers of an engine, from the list that the library prints after a detailed build.

The file `.layers.json` beside the engine is UTF-8 JSON: a list of objects, one per line, with the
attributes of `Layer`. Files of earlier versions lack `inputs`, `outputs` and `constants`.
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
        name: the library's name. Layers that use the same name share the tensor.
        shape: dimensions; -1 for one that a profile leaves open.
        type: element type, such as "float16".
    """

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def bytes(self) -> int | None:
        """Size in bytes; None if a dimension is open or the type unknown."""
        if -1 in self.shape or self.type not in _BYTES:
            return None
        return math.prod(self.shape) * _BYTES[self.type]


_TYPE_IN_FORMAT = re.compile(r"\b(FP\d+|BF16|U?INT\d+|BOOL|HALF|FLOAT)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """One layer after fusion.

    Attributes:
        name: the library's.
        kind: the library's kind, such as "gemm" or "kgen" (a generated kernel).
        types: types of its outputs, such as "float16"; empty for a layer that only synchronises.
        nodes: ONNX nodes that it came from, if the library names them.
        inputs: tensors that it reads.
        outputs: tensors that it writes.
        constants: weights that it contains.
    """

    name: str
    kind: str
    types: tuple[str, ...]
    nodes: tuple[str, ...]
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    constants: tuple[Tensor, ...] = ()


def layers_from_log(messages: Iterable[tuple[str, str]]) -> list[Layer]:
    """The layers listed by a detailed build; empty without a list."""
    for _, text in messages:
        # The builder writes all layers in one message, which ends with a blank line.
        if re.match(r"\s*Layers?:\s*\n", text):
            lines = text.partition("\n\n")[0].splitlines()
            return [_from_line(line) for line in lines if line.startswith("Name: ")]
    return []


def _from_line(line: str) -> Layer:
    name, _, rest = line.removeprefix("Name: ").partition(", LayerType: ")
    kind, _, rest = rest.partition(", ")
    # A list ends where the next begins: a bracket alone may close a tensor's dimensions.
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
    """The type: a single word, or part of a format such as "Channel major FP16 format"."""
    found = _TYPE_IN_FORMAT.search(words) or re.match(r"\w+", words.strip())
    return readable_type(found[0]) if found else ""


def layers_to_json(layers: Iterable[Layer]) -> str:
    """The content of the file beside an engine."""
    lines = ",\n".join(json.dumps(asdict(layer)) for layer in layers)
    return f"[\n{lines}\n]\n"


def layers_from_json(text: str) -> list[Layer]:
    """The inverse of `layers_to_json`. Raises TypeError or ValueError."""
    layers: list[Layer] = decoded(list[Layer], load_json(text), "layers")
    return layers


def layers_beside(engine: Path) -> list[Layer]:
    """The list beside an engine; empty if it is missing or not ours."""
    try:
        return layers_from_json(read_bounded(engine.with_suffix(".layers.json")).decode("utf-8"))
    # The engine was built without details, or the list was removed. Nothing depends on it.
    except (OSError, TypeError, ValueError):
        return []
