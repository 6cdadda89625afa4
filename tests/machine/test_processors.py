"""How many threads are asked for, in a container and without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maxim_deploy._optional import require
from maxim_deploy.machine import processors
from maxim_deploy.machine.onnxruntime import session_options
from maxim_deploy.machine.processors import threads_to_ask_for, usable_processors


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "usable", "asked"), [(None, 8, 0), (3, 3, 3), (1, 1, 1), (8, 8, 0), (64, 8, 0)]
)
def test_a_quota_below_the_processors_counts(
    eight: None, monkeypatch: pytest.MonkeyPatch, quota: int | None, usable: int, asked: int
) -> None:
    monkeypatch.setattr(processors, "processors_in_group", lambda: quota)
    assert (usable_processors(), threads_to_ask_for()) == (usable, asked)
    assert threads_to_ask_for(5) == 5


def test_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(processors, "processors_in_group", lambda: None)
    assert (usable_processors(), threads_to_ask_for()) == (6, 0)


def test_sessions_follow_the_quota(eight: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ort = require("onnxruntime", "cpu")
    monkeypatch.setattr(processors, "processors_in_group", lambda: 3)
    assert session_options(ort).intra_op_num_threads == 3
    assert session_options(ort, 2).intra_op_num_threads == 2
    monkeypatch.setattr(processors, "processors_in_group", lambda: None)
    assert session_options(ort).intra_op_num_threads == 0


def test_pytorch_follows_the_quota(
    eight: None, monkeypatch: pytest.MonkeyPatch, demo_bundle: Path
) -> None:
    torch = pytest.importorskip("torch")
    from maxim_deploy.parity.torch_backend import TorchBackend
    from maxim_deploy.spec.bundle import Bundle

    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(processors, "processors_in_group", lambda: 3)
    TorchBackend(Bundle.open(demo_bundle), "fp32", torch.device("cpu"))
    TorchBackend(Bundle.open(demo_bundle), "fp32", torch.device("cpu"), 2)
    monkeypatch.setattr(processors, "processors_in_group", lambda: None)
    TorchBackend(Bundle.open(demo_bundle), "fp32", torch.device("cpu"))
    assert asked == [3, 2]
