"""Our model in Triton's python backend, on a stand-in for what the backend gives it."""

from __future__ import annotations

import gc
import json
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bundles import write_identity_bundle
from serving.http_services import until

from maxim_deploy.errors import ImageTooLargeError
from maxim_deploy.runtime import Restorer
from maxim_deploy.serving.triton import flow, settings
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


def with_senders(*shapes: tuple[int, ...]) -> tuple[list[Request], list[Sender]]:
    """Requests of a server that takes each answer at once."""
    requests = [Request(picture(*shape)) for shape in shapes]
    senders = [Sender() for _ in requests]
    for request, sender in zip(requests, senders, strict=True):
        request.get_response_sender = partial(lambda it: it, sender)  # type: ignore[attr-defined]
    return requests, senders


class OnGpu:
    """Of a `Restorer`: what is asked for its device and its batches."""

    def __init__(self, batch: Callable[..., Any]) -> None:
        self.info, self.batch = SimpleNamespace(device="cuda:0"), batch

    def close(self) -> None:
        pass


def test_answers_of_a_gpu_are_sent_as_they_come(model: PythonModel, monkeypatch) -> None:
    """A caller of the batch does not wait for the last picture."""
    requests, senders = with_senders((2, 3, 5, 3), (2, 70, 5, 3), (2, 4, 5, 3), (1, 0, 5, 3))
    progress: list[int] = []
    plain = model._restorer.batch

    def watched(images: Any, *, ready: Any) -> Any:
        def told(index: int, result: Any) -> None:
            ready(index, result)
            progress.append(sum(len(sender.sent) for sender in senders))

        return plain(images, ready=told)

    monkeypatch.setattr(model, "_restorer", OnGpu(watched))
    assert model.execute(requests) is None
    assert progress[0] == 1 and progress[-1] == 4 and len(set(progress)) > 2
    for request, sender in zip(requests[:3], senders, strict=False):
        assert (restored(sender.sent[0]) == request.tensor.array).all()
    assert "it has no pixels" in senders[3].sent[0].error.text


def test_a_fault_of_ours_answers_each_request_once(
    model: PythonModel, triton: Any, monkeypatch, caplog
) -> None:
    """An exception of `execute` would make the server answer again what has an answer."""
    requests, senders = with_senders((1, 70, 5, 3), (1, 4, 5, 3))
    plain = model._restorer.batch

    def failing(images: Any, *, ready: Any) -> Any:
        if len(images) == 1:
            raise ZeroDivisionError("a fault")
        ready(0, plain(images[:1])[0])
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(model, "_restorer", OnGpu(failing))
    assert model.execute(requests) is None
    assert (restored(senders[0].sent[0]) == requests[0].tensor.array).all()
    is_fault_of_ours(senders[1], triton, caplog)


def is_fault_of_ours(sender: Sender, triton: Any, caplog) -> None:
    (answer,) = sender.sent
    assert answer.error.code == triton.TritonError.INTERNAL
    assert answer.error.text == "ZeroDivisionError('a fault')"
    assert "could not be restored\n" in caplog.text and "ZeroDivisionError: a fault" in caplog.text


class TestOnACpu:
    """With senders the last pictures of an execution are answered after it."""

    @pytest.fixture
    def futures(self, model: PythonModel, monkeypatch) -> list[Future[Any]]:
        """Of the submitted pictures, in order. Two lanes."""
        made: list[Future[Any]] = []

        def submit(image: np.ndarray) -> Future[Any]:
            made.append(Future())
            return made[-1]

        monkeypatch.setattr(model._restorer, "submit", submit)
        monkeypatch.setattr(model._flow, "_lanes", 2)
        return made

    def test_pictures_are_those_of_their_requests(self, model: PythonModel) -> None:
        requests, senders = with_senders((1, 1, 1, 3), (2, 5, 7, 3), (1, 0, 5, 3), (3, 5, 7, 3))
        assert model.execute(requests) is None
        model.finalize()
        for k in (0, 1, 3):
            assert (restored(senders[k].sent[0]) == requests[k].tensor.array).all()
        assert "it has no pixels" in senders[2].sent[0].error.text

    def test_an_execution_ends_before_a_lane_is_idle_for_long(self, model, futures) -> None:
        requests, senders = with_senders((1, 3, 5, 3), (1, 4, 5, 3), (1, 5, 5, 3))
        ended = threading.Event()
        execution = threading.Thread(target=lambda: (model.execute(requests), ended.set()))
        execution.start()
        until(lambda: len(futures) == 3)
        futures[1].set_result(requests[1].tensor.array[0])
        assert len(senders[1].sent) == 1 and not ended.wait(0.2)
        futures[0].set_result(requests[0].tensor.array[0])
        assert ended.wait(60) and not senders[2].sent
        futures[2].set_result(requests[2].tensor.array[0])
        assert (restored(senders[2].sent[0]) == requests[2].tensor.array).all()
        execution.join()

    def test_memory_of_the_server_is_not_read_later(self, model, monkeypatch) -> None:
        requests, senders = with_senders((1, 3, 5, 3))
        taken: list[np.ndarray] = []
        begun = partial(taken.append)
        late: Future[Any] = Future()
        monkeypatch.setattr(model._restorer, "submit", lambda image: (begun(image), late)[1])
        monkeypatch.setattr(model._flow, "_lanes", 2)
        expected = requests[0].tensor.array.copy()
        assert model.execute(requests) is None  # a picture that is alone is not waited for long
        requests[0].tensor.array[:] = 0
        late.set_result(taken[0])
        assert (restored(senders[0].sent[0]) == expected).all()

    def test_requests_share_an_execution_while_a_picture_is_alone(
        self, model, futures, monkeypatch
    ) -> None:
        monkeypatch.setattr(flow, "ALONE_S", 60)
        requests, _ = with_senders((1, 3, 5, 3))
        execution = threading.Thread(target=model.execute, args=[requests])
        execution.start()
        until(lambda: len(futures) == 1)
        assert execution.is_alive()
        futures[0].set_result(requests[0].tensor.array[0])
        execution.join(60)
        assert not execution.is_alive()

    def test_a_bad_picture_spoils_no_other(self, model, triton: Any, futures) -> None:
        requests, senders = with_senders((2, 3, 5, 3), (1, 4, 5, 3))
        execution = threading.Thread(target=model.execute, args=[requests])
        execution.start()
        until(lambda: len(futures) == 3)
        futures[0].set_exception(ImageTooLargeError("image of 3x5 | too large"))
        futures[1].set_result(requests[0].tensor.array[1])
        futures[2].set_result(requests[1].tensor.array[0])
        execution.join(60)
        (refused,), (other,) = (sender.sent for sender in senders)
        assert refused.error.code == triton.TritonError.INVALID_ARG
        assert refused.error.text == "image of 3x5 | too large"
        assert (restored(other) == requests[1].tensor.array).all()

    def test_a_fault_of_ours(self, model, triton: Any, futures, caplog) -> None:
        requests, senders = with_senders((1, 3, 5, 3))
        assert model.execute(requests) is None
        futures[0].set_exception(ZeroDivisionError("a fault"))
        is_fault_of_ours(senders[0], triton, caplog)

    def test_a_fault_in_the_response(
        self, model, triton: Any, futures, monkeypatch, caplog
    ) -> None:
        requests, senders = with_senders((1, 3, 5, 3))

        def failing(array: np.ndarray) -> Any:
            raise ZeroDivisionError("a fault")

        monkeypatch.setattr(model._tensors, "restored", failing)
        assert model.execute(requests) is None
        futures[0].set_result(requests[0].tensor.array[0])
        is_fault_of_ours(senders[0], triton, caplog)
        assert model._flow._pending == 0

    @pytest.mark.parametrize("place", ["tensors", "submit", "stack"])
    def test_a_fault_before_or_after_the_network(
        self, model, triton: Any, monkeypatch, caplog, place: str
    ) -> None:
        """Each request is answered once, the one that has no fault too."""
        requests, senders = with_senders((1, 3, 5, 3), (1, 4, 5, 3))
        owner, name = {
            "tensors": (model._tensors, "image"),
            "submit": (model._restorer, "submit"),
            "stack": (flow.np, "stack"),
        }[place]
        plain, calls = getattr(owner, name), []

        def failing(*given: Any) -> Any:
            calls.append(given)
            if len(calls) == 1:
                raise MemoryError("a fault")
            return plain(*given)

        monkeypatch.setattr(owner, name, failing)
        assert model.execute(requests) is None
        model.finalize()
        answers = [sender.sent[0] for sender in senders]
        (fault,) = [one for one in answers if one.error]
        assert fault.error.code == triton.TritonError.INTERNAL
        assert fault.error.text == "MemoryError('a fault')"

    def test_a_closed_restorer(self, model, triton: Any) -> None:
        model._restorer.close()
        requests, senders = with_senders((1, 3, 5, 3))
        assert model.execute(requests) is None
        error = senders[0].sent[0].error
        assert error.code == triton.TritonError.INTERNAL and "closed" in error.text

    def test_results_do_not_wait_for_the_garbage_collector(self, model, monkeypatch) -> None:
        requests, _ = with_senders((1, 3, 5, 3), (2, 4, 5, 3))
        made: list[weakref.ref[Any]] = []
        plain = model._restorer.submit

        def submit(image: np.ndarray) -> Any:
            future = plain(image)
            made.append(weakref.ref(future))
            return future

        monkeypatch.setattr(model._restorer, "submit", submit)
        gc.disable()
        try:
            model.execute(requests)
            model._restorer.close()
            assert len(made) == 3
            until(lambda: all(future() is None for future in made))
        finally:
            gc.enable()


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
