"""`config.pbtxt`: made from a version, checked by the server's own schema and by the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import BundleError
from maxim_deploy.serving.triton.ends import Ends, Signature
from maxim_deploy.serving.triton.options import ModelOptions
from maxim_deploy.serving.triton.schema import model_config_type
from maxim_deploy.serving.triton.version import Version

HEAD = "# Written by `maxim-deploy triton`, which writes it again for every new version.\n"


def config_text(version: Version, options: ModelOptions) -> str:
    """The text of `config.pbtxt`; the options have a name.

    Raises:
        BundleError: the graph has other ends than the configuration says.
        MissingDependencyError: the schema is not installed; the message is the pip line.
    """
    json_format = require("google.protobuf.json_format", "triton")
    text_format = require("google.protobuf.text_format", "triton")
    message = json_format.ParseDict(_document(version, options), model_config_type()())
    text: str = HEAD + text_format.MessageToString(message)
    check_config(text, version.graph_ends)
    return text


def check_config(text: str, graph: Ends) -> None:
    """Refuse a configuration that the server would not take, or that is not of its graph.

    Args:
        text: of `config.pbtxt`.
        graph: the ends of the graph that it is for.

    Raises:
        BundleError: it has a field that the schema lacks, or other names, types or axes than the
            graph.
    """
    text_format = require("google.protobuf.text_format", "triton")
    try:
        config = text_format.Parse(text, model_config_type()())
    except text_format.ParseError as error:
        raise BundleError(f"config.pbtxt | Triton's schema refuses it: {error}") from error
    for what, ends, expected in (
        ("input", config.input, graph.input),
        ("output", config.output, graph.output),
    ):
        found = [_signature(end) for end in ends]
        if found != [expected]:
            raise BundleError(
                f"config.pbtxt | {what} {_words(found)} | the graph has {_words([expected])} | "
                "export the bundle again"
            )


def _signature(end: Any) -> Signature:
    kind = end.DESCRIPTOR.fields_by_name["data_type"].enum_type
    return end.name, kind.values_by_number[end.data_type].name, tuple(end.dims)


def _words(ends: list[Signature]) -> str:
    return ", ".join(f"{name!r} {kind} {list(axes)}" for name, kind, axes in ends) or "none"


def _document(version: Version, options: ModelOptions) -> dict[str, Any]:
    """The configuration as the JSON form of its message."""
    ends = version.ends
    given = {key: value for key, value in _parameters(version).items() if value is not None}
    return {
        "name": options.name,
        **version.fields,
        "max_batch_size": version.max_batch,
        # Without it only requests of one size run together; our own model sorts them itself.
        "input": [
            {**_end(ends.input), **({"allow_ragged_batch": True} if version.is_ragged else {})}
        ],
        "output": [_end(ends.output)],
        "instance_group": [_instances(version, options)],
        "dynamic_batching": {
            "max_queue_delay_microseconds": options.delay_us,
            "default_queue_policy": {"max_queue_size": options.queue},
        },
        "model_warmup": [_sample(ends.input, size) for size in version.sizes],
        "parameters": {key: {"string_value": str(value)} for key, value in given.items()},
    }


def _parameters(version: Version) -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = version.fields.get("parameters", {})
    return parameters


def _end(signature: Signature) -> dict[str, Any]:
    name, kind, axes = signature
    return {"name": name, "data_type": kind, "dims": list(axes)}


def _instances(version: Version, options: ModelOptions) -> dict[str, Any]:
    group: dict[str, Any] = {
        "count": version.instances,
        "kind": "KIND_GPU" if options.is_on_gpu else "KIND_CPU",
    }
    if options.gpus:
        group["gpus"] = list(options.gpus)
    if version.profiles:
        group["profile"] = list(version.profiles)
    return group


def _sample(signature: Signature, size: tuple[int, int]) -> dict[str, Any]:
    """A black picture to run as the model is loaded."""
    name, kind, axes = signature
    sides = iter(size)
    dims = [next(sides) if axis == -1 else axis for axis in axes]
    return {
        "name": "x".join(map(str, size)),
        "batch_size": 1,
        "inputs": {name: {"data_type": kind, "dims": dims, "zero_data": True}},
    }
