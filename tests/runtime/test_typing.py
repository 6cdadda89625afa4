"""What a type checker sees of `load` and `Restorer`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from maxim_deploy.runtime.names import BackendName, PrecisionName
from maxim_deploy.runtime.registry import BACKENDS
from maxim_deploy.spec.precision import PRECISIONS

PROGRAM = """
from collections.abc import Sequence
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

from maxim_deploy import Restoration, RunProgress, load
from maxim_deploy.runtime.cuda import DeviceArray


def follow(progress: RunProgress) -> None:
    print(progress.done, progress.total)


class Foreign:
    def __dlpack__(self) -> Any: ...


def check(
    eight: NDArray[np.uint8],
    sixteen: NDArray[np.uint16],
    exact: NDArray[np.float32],
    unknown: NDArray[Any],
    many: Sequence[NDArray[np.uint8]],
    on_device: DeviceArray,
) -> None:
    with load("bundle", backend="onnxruntime", precision="fp32", queue=8) as restorer:
        assert_type(restorer(eight), NDArray[np.uint8])
        assert_type(restorer(sixteen, rounding="truncate"), NDArray[np.uint16])
        assert_type(restorer(exact, self_ensemble=True), NDArray[np.float32])
        assert_type(restorer(unknown), NDArray[Any])
        assert_type(restorer(Foreign()), NDArray[Any])
        assert_type(restorer(on_device, out=on_device), DeviceArray)
        assert_type(restorer.batch(many), list[NDArray[np.uint8]])
        future = restorer.submit(eight, timeout=1, progress=follow)
        assert_type(future, Restoration[NDArray[np.uint8]])
        assert_type(future.result(), NDArray[np.uint8])
        assert_type(restorer.submit(on_device).result(), DeviceArray)
    load("bundle", backend="one of another distribution")
"""

WRONG_BEGIN = """import numpy as np
from numpy.typing import NDArray

from maxim_deploy import Restorer, load


def check(restorer: Restorer, image: NDArray[np.uint8]) -> None:
"""

WRONG = {
    "restorer(image, rounding='up')": "call-overload",
    "restorer.submit(image, deadline=3)": "call-overload",
    "restorer.submit(image, timeout='3')": "call-overload",
    "restorer(3)": "call-overload",
    "load('bundle', precision='fp61')": "arg-type",
    "load('bundle', queue='8')": "arg-type",
}


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of both programs, in one run of it."""
    pytest.importorskip("mypy", reason="pip install 'maxim-deploy[dev]'")
    folder = tmp_path_factory.mktemp("typing")
    right, wrong = folder / "right.py", folder / "wrong.py"
    right.write_text(PROGRAM)
    wrong.write_text(WRONG_BEGIN + "".join(f"    {line}\n" for line in WRONG))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache")]
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [*command, str(right), str(wrong)], cwd=root, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1, found.stdout + found.stderr
    return found.stdout.splitlines()


@pytest.mark.slow
def test_the_type_of_the_result_is_that_of_the_picture(messages: list[str]) -> None:
    assert [one for one in messages if "right.py" in one] == []


@pytest.mark.slow
def test_wrong_arguments_are_found(messages: list[str]) -> None:
    for number, (line, code) in enumerate(WRONG.items(), WRONG_BEGIN.count("\n") + 1):
        assert any(f"wrong.py:{number}:" in one and code in one for one in messages), line


def test_the_names_are_those_of_the_tables() -> None:
    assert set(get_args(BackendName)) == {"auto", *(row.name for row in BACKENDS)}
    assert get_args(PrecisionName) == ("auto", *PRECISIONS)
