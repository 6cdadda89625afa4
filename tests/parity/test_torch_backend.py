"""The literal network in PyTorch, reached by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import maxim_deploy
from maxim_deploy import BackendError, BundleError, UsageError
from maxim_deploy.checkpoints import open_model
from maxim_deploy.errors import OutOfMemoryError
from maxim_deploy.imaging import Padding
from maxim_deploy.model import module_from_checkpoint
from maxim_deploy.parity import torch_backend
from maxim_deploy.runtime import registry
from maxim_deploy.spec.bundle import Bundle


@pytest.fixture(scope="module")
def restorer(demo_bundle: Path):
    threads = torch.get_num_threads()
    with maxim_deploy.load(demo_bundle, backend="torch", threads=1) as restorer:
        yield restorer
    torch.set_num_threads(threads)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((50, 90, 3), np.float32)


def test_it_is_the_literal_network_in_the_published_padding(restorer, image) -> None:
    padding, network = Padding(50, 90), module_from_checkpoint(open_model("demo-denoise"))
    with torch.inference_mode():
        padded = torch.from_numpy(padding.apply(image)).permute(2, 0, 1)[None]
        expected = network(padded)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(restorer(image), padding.undo(expected))
    info = restorer.info
    assert (info.backend, info.precision, info.io) == ("torch", "fp32", "tensor")
    assert info.library.startswith("torch ") and info.device.startswith(("cpu", "cuda"))


def test_the_graph_agrees_with_it(restorer, demo_bundle: Path, image) -> None:
    with maxim_deploy.load(demo_bundle, backend="onnxruntime") as deployed:
        assert np.abs(deployed(image) - restorer(image)).max() < 1e-5
        assert np.abs(deployed.batch([image] * 2)[1] - restorer.batch([image] * 2)[1]).max() < 1e-5


def test_auto_never_takes_it(demo_bundle: Path) -> None:
    with maxim_deploy.load(demo_bundle) as restorer:
        assert restorer.info.backend != "torch" and "torch" not in restorer.info.not_taken


def test_the_runtime_imports_it_when_asked_for_and_not_before(demo_bundle: Path) -> None:
    script = (
        "import sys, maxim_deploy\n"
        "sys.modules['torch'] = None\n"
        "maxim_deploy.load(sys.argv[1], backend='onnxruntime').close()\n"
        "assert not any('parity' in name for name in sys.modules)\n"
        "try: maxim_deploy.load(sys.argv[1], backend='torch')\n"
        "except maxim_deploy.MissingDependencyError as error: print(error.exit_code, error)"
    )
    command = [sys.executable, "-c", script, str(demo_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "2 torch is not installed; run: pip install 'maxim-deploy[export]'\n", (
        done.stderr
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16"}, "not bf16 here"),
        ({"stream": 5}, "leave stream at None"),
        ({"device": 99}, "device=99 is not available: PyTorch has no GPU here"),
        ({"precision": "fp16"}, "fp16, bf16 on a GPU; not fp16 here"),
    ],
)
def test_what_it_cannot_do(demo_bundle: Path, options, message: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=message):
        maxim_deploy.load(demo_bundle, backend="torch", **options)


def test_a_bundle_without_literal_weights_or_with_others(demo_bundle: Path, tmp_path) -> None:
    folder = shutil.copytree(demo_bundle, tmp_path / "bundle")
    with (folder / "source.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(BundleError, match=r"source.safetensors.* has changed since the export"):
        maxim_deploy.load(folder, backend="torch")
    opened = Bundle.open(folder)
    Bundle(folder, replace(opened.manifest, source=None)).write()
    with pytest.raises(BundleError, match="no literal weights . export it again without"):
        maxim_deploy.load(folder, backend="torch")


def test_failures_and_closing(demo_bundle: Path) -> None:
    cpu = torch.device("cpu")
    backend = torch_backend.TorchBackend(Bundle.open(demo_bundle), "fp32", cpu)
    with pytest.raises(BackendError, match="PyTorch failed on an input of 1x4x64x64"):
        backend.run(np.zeros((1, 4, 64, 64), np.float32))

    def full(_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    backend._module = full
    with pytest.raises(OutOfMemoryError, match="can't allocate"):
        backend.run(np.zeros((1, 3, 64, 64), np.float32))
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run(np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no GPU here")
def test_on_a_gpu(demo_bundle: Path, image) -> None:
    with maxim_deploy.load(demo_bundle, backend="onnxruntime") as deployed:
        expected = deployed(image)
    for precision, most in (("fp32", 1e-4), ("fp16", 2e-2)):
        with maxim_deploy.load(demo_bundle, backend="torch", precision=precision) as restorer:
            assert restorer.info.device.startswith("cuda:0")
            assert np.abs(restorer(image) - expected).max() < most


def test_backends_of_ones_own(demo_bundle: Path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(UsageError, match="known: auto, tensorrt, .*, torch$"):
        maxim_deploy.load(demo_bundle, backend="mine")

    def opener(request) -> torch_backend.TorchBackend:
        return torch_backend.TorchBackend(request.bundle, "fp32", torch.device("cpu"))

    registry.register_backend("mine", opener)
    with maxim_deploy.load(demo_bundle, backend="mine") as restorer:
        assert restorer(np.zeros((5, 5, 3), np.uint8)).shape == (5, 5, 3)
    for taken in ("mine", "torch", "auto", "onnxruntime"):
        with pytest.raises(UsageError, match=f"there is a backend '{taken}' already"):
            registry.register_backend(taken, opener)
