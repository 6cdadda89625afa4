"""Our model in Triton's python backend, on a stand-in for what the backend gives it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bundles import write_identity_bundle

from maxim_deploy.errors import ImageTooLargeError
from maxim_deploy.runtime import Restorer
from maxim_deploy.serving.triton import settings
from maxim_deploy.serving.triton.python_model import PythonModel
from maxim_deploy.serving.triton.settings import Settings
from maxim_deploy.serving.triton.tensors import Tensors

CONFIG = {
    "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    "parameters": {"precision": {"string_value": "auto"}},
    "model_warmup": [{"inputs": {"image": {"dims": ["8", "9", "3"]}}}],
}


class Tensor:
    """Of the stand-in: an array and how it came in."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array, self.how = name, array, "numpy"

    @classmethod
    def from_dlpack(cls, name: str, capsule: object) -> Tensor:
        # NumPy takes capsules in objects alone.
        holder = SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=lambda: (1, 0))
        made = cls(name, np.from_dlpack(holder))
        made.how = "dlpack"
        return made

    def as_numpy(self) -> np.ndarray:
        return self.array

    def __dlpack__(self, **options: Any) -> object:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class Request:
    def __init__(self, array: np.ndarray, *, cancelled: bool = False) -> None:
        self.tensor, self.cancelled = Tensor("image", array), cancelled

    def is_cancelled(self) -> bool:
        return self.cancelled


def backend_utils() -> Any:
    """A stand-in for `triton_python_backend_utils`."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.Tensor = Tensor
    module.get_input_tensor_by_name = lambda request, name: (
        request.tensor if name == "image" else None
    )
    module.InferenceResponse = lambda tensors, error=None: SimpleNamespace(
        tensors=tensors, error=error
    )
    module.TritonModelException = RuntimeError

    class TritonError:
        INVALID_ARG, INTERNAL, CANCELLED = 400, 500, 499

        def __init__(self, text: str, code: int) -> None:
            self.text, self.code = text, code

    module.TritonError = TritonError
    return module


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = backend_utils()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def arguments(config: dict[str, Any] | None = None, **others: str) -> dict[str, str]:
    given = {"model_instance_kind": "CPU", "model_instance_device_id": "0"}
    return {"model_config": json.dumps(config or CONFIG), **given, **others}


@pytest.fixture
def model(triton: Any, tmp_path: Path) -> Iterator[PythonModel]:
    made = PythonModel()
    made.bundle = write_identity_bundle(tmp_path / "bundle")
    made.initialize(arguments())
    yield made
    made.finalize()


def responses_of(model: PythonModel, requests: list[Request]) -> list[Any]:
    """Of a server that takes answers at the end."""
    responses = model.execute(requests)
    assert responses is not None
    return responses


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def restored(response: Any) -> np.ndarray:
    assert response.error is None, response.error.text
    (tensor,) = response.tensors
    assert tensor.name == "restored"
    return tensor.array


def test_pictures_of_any_size_together(model: PythonModel) -> None:
    sizes = [(1, 1, 1, 3), (2, 5, 7, 3), (1, 64, 64, 3), (1, 5, 7, 3)]
    requests = [Request(picture(*size)) for size in sizes]
    responses = responses_of(model, requests)
    for request, response in zip(requests, responses, strict=True):
        assert (restored(response) == request.tensor.array).all()


def test_they_are_one_batch(model: PythonModel, monkeypatch) -> None:
    batches: list[int] = []
    plain = Restorer.batch

    def counted(self: Restorer, images: Any, **options: Any) -> Any:
        batches.append(len(images))
        return plain(self, images, **options)

    monkeypatch.setattr(Restorer, "batch", counted)
    model.execute([Request(picture(1, side, 5, 3)) for side in range(1, 7)])
    assert batches == [6]


class Sender:
    """Of the stand-in: what a server since 24.07 gives for each request."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, response: Any, flags: int) -> None:
        assert flags == 1 and not self.sent, "an answer is final"
        self.sent.append(response)


def test_answers_are_sent_as_they_come(model: PythonModel, monkeypatch) -> None:
    """A caller of the batch does not wait for the last picture."""
    requests = [Request(picture(2, side, 5, 3)) for side in (3, 70, 4)]
    requests.append(Request(picture(1, 0, 5, 3)))
    senders = [Sender() for _ in requests]
    for request, sender in zip(requests, senders, strict=True):
        monkeypatch.setattr(request, "get_response_sender", lambda it=sender: it, raising=False)
    progress: list[int] = []
    plain = Restorer.batch

    def watched(self: Restorer, images: Any, *, ready: Any) -> Any:
        def told(index: int, result: Any) -> None:
            ready(index, result)
            progress.append(sum(len(sender.sent) for sender in senders))

        return plain(self, images, ready=told)

    monkeypatch.setattr(Restorer, "batch", watched)
    assert model.execute(requests) is None
    assert progress[0] == 1 and progress[-1] == 4 and len(set(progress)) > 2
    for request, sender in zip(requests[:3], senders, strict=False):
        assert (restored(sender.sent[0]) == request.tensor.array).all()
    assert "it has no pixels" in senders[3].sent[0].error.text


def test_a_fault_of_ours_answers_each_request_once(
    model: PythonModel, triton: Any, monkeypatch, caplog
) -> None:
    """An exception of `execute` would make the server answer again what has an answer."""
    requests = [Request(picture(1, side, 5, 3)) for side in (70, 4)]
    senders = [Sender() for _ in requests]
    for request, sender in zip(requests, senders, strict=True):
        monkeypatch.setattr(request, "get_response_sender", lambda it=sender: it, raising=False)
    plain = Restorer.batch

    def failing(self: Restorer, images: Any, *, ready: Any) -> Any:
        if len(images) == 1:
            raise ZeroDivisionError("a fault")
        ready(0, plain(self, images[:1])[0])
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Restorer, "batch", failing)
    assert model.execute(requests) is None
    assert (restored(senders[0].sent[0]) == requests[0].tensor.array).all()
    (answer,) = senders[1].sent
    assert answer.error.code == triton.TritonError.INTERNAL
    assert answer.error.text == "ZeroDivisionError('a fault')" and "Traceback" in caplog.text


def test_nothing_to_restore(model: PythonModel, triton: Any) -> None:
    (response,) = responses_of(model, [Request(picture(1, 0, 5, 3))])
    assert response.error.code == triton.TritonError.INVALID_ARG
    assert response.error.text == (
        "input 'image' of 1x0x5x3 | it has no pixels | expected uint8 [N, H, W, 3] with N, H and W "
        "from 1 on"
    )


def test_a_bad_picture_spoils_no_other(model: PythonModel, triton: Any, monkeypatch) -> None:
    plain = Restorer.batch

    def refusing(self: Restorer, images: Any, **options: Any) -> Any:
        if any(len(image) > 10 for image in images):
            raise ImageTooLargeError("image of 11x5 | too large")
        return plain(self, images, **options)

    monkeypatch.setattr(Restorer, "batch", refusing)
    sizes = [(1, 3, 5, 3), (1, 11, 5, 3), (1, 0, 0, 3), (1, 4, 5, 3)]
    first, large, empty, last = responses_of(model, [Request(picture(*size)) for size in sizes])
    assert restored(first).shape == (1, 3, 5, 3) and restored(last).shape == (1, 4, 5, 3)
    for response, text in ((large, "image of 11x5 | too large"), (empty, "it has no pixels")):
        assert response.error.code == triton.TritonError.INVALID_ARG and text in response.error.text


def test_what_is_no_fault_of_the_picture(model: PythonModel, triton: Any) -> None:
    model._restorer.close()
    (response,) = responses_of(model, [Request(picture(1, 3, 5, 3))])
    assert response.error.code == triton.TritonError.INTERNAL and "closed" in response.error.text


def test_cancelled_before_it_begins(model: PythonModel, triton: Any) -> None:
    gone, other = responses_of(
        model, [Request(picture(1, 3, 5, 3), cancelled=True), Request(picture(1, 3, 5, 3))]
    )
    assert gone.error.code == triton.TritonError.CANCELLED and restored(other).size == 45


@pytest.mark.parametrize("by_dlpack, how", [(True, "dlpack"), (False, "numpy")])
def test_tensors_by_the_version_of_numpy(triton: Any, by_dlpack: bool, how: str) -> None:
    tensors = Tensors(triton, by_dlpack=by_dlpack)
    array = picture(1, 2, 3, 3)
    assert (tensors.image(Request(array)) == array).all()
    made = tensors.restored(array)
    assert (made.name, made.how) == ("restored", how) and (made.array == array).all()


def test_a_bundle_that_cannot_be_opened(triton: Any, tmp_path: Path) -> None:
    model = PythonModel()
    model.bundle = tmp_path / "nothing"
    with pytest.raises(triton.TritonModelException, match="is not a bundle: no such directory"):
        model.initialize(arguments())


def test_a_gpu_that_is_not_there(triton: Any, tmp_path: Path) -> None:
    """Rather than on the CPU, where nobody would look for the time it takes."""
    model = PythonModel()
    model.bundle = write_identity_bundle(tmp_path / "bundle")
    on_gpu = arguments(model_instance_kind="GPU", model_instance_device_id="63")
    with pytest.raises(triton.TritonModelException):
        model.initialize(on_gpu)


class TestSettings:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "usable_processors", lambda: 8)
        monkeypatch.setattr(settings, "available_bytes", lambda: 10_000)
        monkeypatch.setattr(settings, "resident_bytes", lambda: 500)

    def settings(self, count: int = 1, **parameters: str) -> Settings:
        said = {key: {"string_value": value} for key, value in parameters.items()}
        groups = [{"kind": "KIND_CPU", "count": count}]
        return Settings.from_arguments(
            arguments({**CONFIG, "instance_group": groups, "parameters": said})
        )

    def test_one_instance_has_the_machine(self) -> None:
        assert self.settings().sizes == ((8, 9),)
        assert self.settings().load_options() == {
            "precision": "auto", "backend": "onnxruntime", "threads": None, "lanes": "auto",
            "max_memory": 8500,
        }  # fmt: skip

    @pytest.mark.parametrize("count, threads, memory", [(2, 4, 4500), (3, 2, 3166), (20, 1, 900)])
    def test_several_share_it(self, count: int, threads: int, memory: int) -> None:
        options = self.settings(count).load_options()
        assert (options["threads"], options["max_memory"]) == (threads, memory)
        assert options["lanes"] == 1

    def test_what_is_told(self) -> None:
        said = {"precision": "fp16", "threads": "3", "max_memory": "77"}
        options = self.settings(2, **said).load_options()
        assert (options["precision"], options["threads"], options["max_memory"]) == ("fp16", 3, 77)

    def test_on_a_gpu(self) -> None:
        found = Settings.from_arguments(
            arguments(model_instance_kind="GPU", model_instance_device_id="3")
        )
        assert found.load_options() == {
            "precision": "auto", "max_memory": None, "backend": "auto", "device": 3,
        }  # fmt: skip
