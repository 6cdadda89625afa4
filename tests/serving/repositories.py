"""Repositories for Triton, read back as the server reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

schema = pytest.importorskip(
    "maxim_deploy.serving.triton.schema", reason="pip install 'maxim-deploy[triton]'"
)


def config_of(model: Path) -> Any:
    """The message in a model's `config.pbtxt`."""
    from google.protobuf import text_format

    text = (model / "config.pbtxt").read_text()
    return text_format.Parse(text, schema.model_config_type()())


def versions(model: Path) -> list[str]:
    return sorted(path.name for path in model.iterdir() if path.is_dir())


def inside(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(folder)) for path in files)


def texts(model: Path) -> dict[str, str]:
    """The parameters of a model."""
    return {key: value.string_value for key, value in config_of(model).parameters.items()}
