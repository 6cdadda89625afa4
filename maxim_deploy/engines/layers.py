"""The layers of an engine, as the library lists them at the end of a detailed build."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from maxim_deploy.machine.tensorrt import readable_type
from maxim_deploy.spec.decoding import decoded

_TYPE_IN_FORMAT = re.compile(r"\b(FP\d+|BF16|U?INT\d+|BOOL|HALF|FLOAT)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """One layer after fusion.

    Attributes:
        name: the library's.
        kind: the library's word, such as "gemm" or "kgen" (a generated kernel).
        types: of its outputs, such as "float16"; empty for one that only synchronises.
        nodes: ONNX nodes that it came from, where the library says so.
    """

    name: str
    kind: str
    types: tuple[str, ...]
    nodes: tuple[str, ...]


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
    outputs = rest.partition("Outputs: [")[2]
    outputs = re.split(r"\], (?:Tactic|Parameter)", outputs)[0]
    return Layer(name, kind, _types(outputs), tuple(re.findall(r"\[ONNX Layer: ([^\]]+)\]", rest)))


def _types(text: str) -> tuple[str, ...]:
    """A type is one word, or in the name of a format, as in "Channel major FP16 format"."""
    described = re.findall(r"Datatype: ([^,}\]]+)", text)
    words = [_TYPE_IN_FORMAT.search(one) or re.match(r"\w+", one) for one in described]
    return tuple(dict.fromkeys(readable_type(word[0]) for word in words if word))


def layers_to_json(layers: Iterable[Layer]) -> str:
    """As kept beside an engine: a list of objects with the attributes of `Layer`."""
    return json.dumps([asdict(layer) for layer in layers], indent=0) + "\n"


def layers_from_json(text: str) -> list[Layer]:
    """The inverse of `layers_to_json`; raises TypeError or ValueError."""
    layers: list[Layer] = decoded(list[Layer], json.loads(text), "layers")
    return layers
