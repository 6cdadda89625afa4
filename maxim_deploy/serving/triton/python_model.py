"""The model that Triton's python backend runs: a bundle through a `Restorer`.

`model.py` of a version folder derives from `PythonModel` and says where the bundle is. Triton calls
`initialize`, `execute` and `finalize` in a process of their own for each instance.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.errors import BackendError, MaximDeployError, UsageError
from maxim_deploy.runtime import Restorer, load
from maxim_deploy.serving.triton.answers import Answers
from maxim_deploy.serving.triton.flow import Flow
from maxim_deploy.serving.triton.settings import Settings
from maxim_deploy.serving.triton.tensors import Tensors

log = logging.getLogger(__name__)


class PythonModel:
    """One instance of a model in Triton's python backend.

    Attributes:
        bundle: the folder of the bundle, set by `model.py`.
    """

    bundle: Path

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle; called once, as the model is loaded.

        Args:
            args: as Triton gives them; of these the configuration, and the kind and the device of
                the instance.

        Raises:
            TritonModelException: the bundle cannot be opened as configured.
        """
        # Only the server's own Python processes have this module.
        self._triton = importlib.import_module("triton_python_backend_utils")
        self._tensors = Tensors(self._triton)
        try:
            settings = Settings.from_arguments(args)
            self._restorer = load(self.bundle, **settings.load_options())
            _check_device(self._restorer, settings)
            self._restorer.warmup(settings.sizes)
            self._flow = Flow(self._restorer)
        except MaximDeployError as error:
            raise self._triton.TritonModelException(str(error)) from error

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Restore the pictures of some requests.

        Args:
            requests: each with an `image`, uint8 `[N, H, W, 3]`. Sizes may differ.

        Returns:
            A response for each, in order: `restored` of the same shape and type, or an error. None
            if they are sent one by one; on a CPU the last ones follow after this call.
        """
        answers = Answers(self._triton, requests)
        stacks: dict[int, NDArray[np.uint8]] = {}
        for index, request in enumerate(requests):
            if request.is_cancelled():
                answers.give(index, self._error("the request was cancelled", "CANCELLED"))
                continue
            try:
                stacks[index] = checked_stack(self._tensors.image(request))
            except Exception as error:
                answers.give(index, self._refusal(error))
        # A GPU gains from pictures that run together, a CPU more from lanes that are never idle.
        if answers.are_sent and self._restorer.info.device == "cpu":
            self._begin(stacks, answers)
        else:
            self._restore(stacks, answers)
        return answers.to_return()

    def finalize(self) -> None:
        """Finish all pictures and give the memory back; called once, as the model is unloaded."""
        self._restorer.close()

    def _begin(self, stacks: Mapping[int, NDArray[np.uint8]], answers: Answers) -> None:
        """Answer these requests, the last ones after this call."""
        for index, stack in stacks.items():
            try:
                self._flow.add(stack, partial(self._answer, answers, index))
            # Also a fault of ours: the server may not answer what has an answer already.
            except Exception as error:
                answers.give(index, self._refusal(error))
        self._flow.wait_for_room()

    def _answer(
        self, answers: Answers, index: int, outcome: NDArray[np.uint8] | BaseException
    ) -> None:
        answers.give(index, self._response(outcome))

    def _restore(self, stacks: Mapping[int, NDArray[np.uint8]], answers: Answers) -> None:
        """Answer these requests."""
        places = [(index, place) for index, stack in stacks.items() for place in range(len(stack))]
        restored: dict[int, dict[int, NDArray[np.uint8]]] = {index: {} for index in stacks}

        def ready(number: int, result: NDArray[np.uint8]) -> None:
            index, place = places[number]
            mine = restored[index]
            mine[place] = result
            if len(mine) == len(stacks[index]):
                whole = np.stack([mine[place] for place in range(len(mine))])
                answers.give(index, self._response(whole))

        try:
            self._restorer.batch([stacks[i][k] for i, k in places], ready=ready)
        except Exception as error:
            # Also a fault of ours: the server may not answer what has an answer already.
            if len(stacks) == 1:
                answers.give(places[0][0], self._refusal(error))
                return
        # One picture that cannot be restored must not take the others of its batch with it.
        for index, stack in stacks.items():
            if index not in answers:
                self._restore({index: stack}, answers)

    def _response(self, outcome: NDArray[np.uint8] | BaseException) -> Any:
        """The response with restored pictures, or with the reason why there are none."""
        if isinstance(outcome, BaseException):
            return self._refusal(outcome)
        try:
            return self._triton.InferenceResponse([self._tensors.restored(outcome)])
        except Exception as error:  # the backend's own: it has no class for this
            return self._refusal(error)

    def _refusal(self, error: BaseException) -> Any:
        if not isinstance(error, MaximDeployError):
            log.error("a picture could not be restored", exc_info=error)
        text = str(error) if isinstance(error, MaximDeployError) else repr(error)
        return self._error(text, "INVALID_ARG" if isinstance(error, UsageError) else "INTERNAL")

    def _error(self, text: str, code: str) -> Any:
        error = self._triton.TritonError(text, getattr(self._triton.TritonError, code))
        return self._triton.InferenceResponse([], error)


def _check_device(restorer: Restorer, settings: Settings) -> None:
    """Refuse to run on the CPU what was configured for a GPU. It would be slow without a word."""
    info = restorer.info
    if settings.gpu is not None and info.device == "cpu":
        reasons = "; ".join(f"{name}: {why}" for name, why in info.not_taken.items())
        restorer.close()
        raise BackendError(f"GPU {settings.gpu} cannot run the bundle: {reasons}")


def checked_stack(stack: NDArray[Any]) -> NDArray[np.uint8]:
    """An array `[N, H, W, 3]` of pictures that there is something to restore of.

    Raises:
        UsageError: it is empty. Triton itself refuses other types and another number of axes or
            channels.
    """
    if 0 in stack.shape:
        shape = "x".join(map(str, stack.shape))
        raise UsageError(
            f"input 'image' of {shape} | it has no pixels | expected uint8 [N, H, W, 3] with N, H "
            "and W from 1 on"
        )
    return stack
