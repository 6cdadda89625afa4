"""Sessions that run the nodes of a graph in the order of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from maxim_deploy.machine.onnxruntime import cpu_session
from maxim_deploy.machine.tiny_graph import TINY_GRAPH


def test_only_who_asks_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, orders = tmp_path / "tiny.onnx", []
    path.write_bytes(TINY_GRAPH)
    session = onnxruntime.InferenceSession

    def opened(graph: str, options: Any, **others: Any) -> Any:
        orders.append(options.execution_order)
        return session(graph, options, **others)

    monkeypatch.setattr("onnxruntime.InferenceSession", opened)
    cpu_session(path)
    cpu_session(path, in_file_order=True)
    order = onnxruntime.ExecutionOrder
    assert orders == [order.DEFAULT, order.PRIORITY_BASED]
