"""A bundle with a network so small that an engine of it takes a fraction of a second to build."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines.bundles import tiny_graph, write_bundle


@pytest.fixture
def trt():
    return pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", tiny_graph())
