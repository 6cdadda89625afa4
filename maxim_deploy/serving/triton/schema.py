"""Triton's own schema of `config.pbtxt`: the message `ModelConfig`, as tritonclient brings it.

tritonclient's generated modules run with the versions of protobuf that they were generated for, and
refuse newer ones, which ONNX needs. The description of the messages in them is data that every
version reads. So it is read out of the file, and nothing in the file is run.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

from maxim_deploy._optional import require
from maxim_deploy.errors import MissingDependencyError

_FILE, _MESSAGE = "grpc/model_config_pb2.py", "inference.ModelConfig"


@functools.cache
def model_config_type() -> Any:
    """The class of the message `ModelConfig`.

    Raises:
        MissingDependencyError: tritonclient or protobuf is not installed, or tritonclient has no
            such description any more.
    """
    pools = require("google.protobuf.descriptor_pool", "triton")
    factory = require("google.protobuf.message_factory", "triton")
    client = require("tritonclient", "triton")
    path = Path(client.__path__[0]) / _FILE
    # A pool of its own: in the common one tritonclient may have put another version of it.
    pool = pools.DescriptorPool()
    pool.AddSerializedFile(_description_in(path))
    return factory.GetMessageClass(pool.FindMessageTypeByName(_MESSAGE))


def _description_in(path: Path) -> bytes:
    """The serialised `FileDescriptorProto` in a module that protoc has generated.

    Raises:
        MissingDependencyError: there is no such file, or none such in it.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError) as error:
        raise MissingDependencyError(f"tritonclient has no readable {_FILE}: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            (argument,) = node.args
            description = ast.literal_eval(argument)
            assert isinstance(description, bytes)
            return description
    raise MissingDependencyError(
        f"tritonclient's {_FILE} holds no description of messages; run: pip install --upgrade "
        "'maxim-deploy[triton]'"
    )
