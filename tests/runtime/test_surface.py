"""What we use of TensorRT's bindings is there, in the oldest and newest versions that we take."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from machine import children
from runtime import surface
from stub_bindings import BINDINGS, environment

pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")


SCRIPT = """
import json, sys
from runtime.surface import findings
print(json.dumps(findings(*sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def findings(pytestconfig: pytest.Config):
    """What a child process finds in some bindings; each is asked once."""
    assert pytestconfig.cache is not None
    cache, known = pytestconfig.cache.mkdir("bindings"), {}

    def find(name: str) -> dict:
        if name not in known:
            variables = environment(name, cache)
            library = name.rpartition("-")[0]
            known[name] = children.run(SCRIPT, library, cache / name, **variables)
        return known[name]

    return find


@pytest.mark.parametrize("name", BINDINGS)
def test_the_bindings_have_all_that_we_use(findings, name: str) -> None:
    found = findings(name)
    assert name.endswith(".".join(found["version"].split(".")[:2]))
    lacking = {
        name: found[name] for name in ("missing", "not settable", "signatures", "subclasses")
    }
    assert not any(lacking.values()), lacking


@pytest.mark.parametrize("name", BINDINGS)
def test_threads_of_the_library_can_log_in_every_call(findings, name: str) -> None:
    assert findings(name)["quiet logger"]


def test_a_logger_in_python_would_hang(findings) -> None:
    """Or the test above could not fail: these bindings hold the lock as they make a runtime."""
    assert not findings("tensorrt-10.12")["python logger"]


def test_the_installed_bindings_have_all_that_we_use() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    assert surface.missing(trt, portable=True) == surface.not_settable(trt, portable=True) == []
    assert surface.wrong_signatures(trt, portable=True) == []
    assert list(surface.refused_subclasses(trt)) == []


def test_what_is_not_there_is_found() -> None:
    bare = importlib.util.module_from_spec(importlib.util.spec_from_loader("bare", None))
    assert "Runtime.deserialize_cuda_engine" in surface.missing(bare, portable=False)
    assert "Runtime.error_recorder" in surface.not_settable(bare, portable=False)
    assert any("set_input_shape" in one for one in surface.wrong_signatures(bare, portable=False))


def test_errors_are_recorded(tmp_path: Path) -> None:
    """By the real library, which refuses a file without asking the driver."""
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    runtime, recorder = trt.Runtime(surface.quiet_logger(trt)), surface.error_recorder(trt)
    runtime.error_recorder = recorder
    assert runtime.deserialize_cuda_engine(b"no engine" * 100) is None
    kind, text = recorder.messages[0]
    assert kind == "ERROR" and "magicTag" in text
    code, said = recorder.get_error_code(0), recorder.get_error_desc(0)
    assert text == f"{said} ({code.name})" and recorder.num_errors() == len(recorder.messages)
    runtime.error_recorder, heard = None, len(recorder.messages)
    assert runtime.deserialize_cuda_engine(b"no engine" * 100) is None
    assert len(recorder.messages) == heard
