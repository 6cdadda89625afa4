"""The future of a picture that was submitted: it can be cancelled while it waits and runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from maxim_deploy.errors import CancelledError
from maxim_deploy.runtime.turns import Stop

R = TypeVar("R")


class Deferred(Exception):  # noqa: N818 - no error: the work is to be done again, elsewhere
    """A picture of many runs would wait for another one; nothing of it was run."""


class Restoration(Future[R], Generic[R]):
    """What `Restorer.submit` returns: a `concurrent.futures.Future` of the restored picture.

    Unlike another future it can be cancelled while it runs. Whoever ends it early, `result` and
    `exception` raise or return the reason at once if it waits, and soon if it runs.

    Args:
        stop: ends the call of this picture.
        withdraw: takes it out of what waits; returns whether it was there.
        leave: called once, before the result can be seen.
    """

    def __init__(
        self,
        stop: Stop,
        withdraw: Callable[[Restoration[R]], bool],
        leave: Callable[[Restoration[R]], object],
    ) -> None:
        super().__init__()
        self._stop, self._withdraw, self._leave = stop, withdraw, leave

    def cancel(self) -> bool:
        """Cancel, whether it waits or runs.

        Returns:
            True if `result` raises `CancelledError` now or soon. False if it is done, or has been
            ended for another reason.
        """
        self.end(CancelledError("the picture was cancelled before it was restored"))
        return isinstance(self._stop.reason, CancelledError)

    def cancelled(self) -> bool:
        """Whether it was cancelled and has ended."""
        return self.done() and isinstance(self._stop.reason, CancelledError)

    def result(self, timeout: float | None = None) -> R:
        """The restored picture; waits for it. Ctrl-C in this wait cancels.

        Args:
            timeout: seconds to wait here; the picture goes on after them. The `timeout` of `submit`
                ends the picture itself.

        Raises:
            TimeoutError: it is not done after `timeout`.
            CancelledError: it was cancelled.
            DeadlineError: the `timeout` of `submit` has passed.
            BaseException: what the call raised.
        """
        try:
            return super().result(timeout)
        except Exception:
            raise
        except BaseException:  # an interruption of the wait, unless it is what the call raised
            self.cancel()
            raise
        finally:
            # The traceback of the exception has this frame, and the exception is this future's.
            self = None  # type: ignore[assignment]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise, or None; raises CancelledError itself, as other futures do."""
        error = super().exception(timeout)
        if isinstance(error, CancelledError) and self.cancelled():
            raise error
        return error

    def end(self, reason: BaseException) -> None:
        """End it early, for the first reason that is given."""
        withdraw = self._withdraw
        if self._stop.set(reason) and withdraw(self):
            self._complete(None, reason)

    def restore(self, work: Callable[[], R]) -> None:
        """Complete it with what `work` returns or raises, or with the reason to end it early.

        Raises:
            Deferred: `work` did, and nothing is completed.
        """
        result: R | None = None
        error: BaseException | None = None
        try:
            result = work()
        except Deferred:
            raise
        except BaseException as raised:
            error = raised
        self._complete(result, self._stop.close() or error)
        del error  # its traceback has this frame

    def _complete(self, result: R | None, error: BaseException | None) -> None:
        # First, so that who waits for the result finds room in the queue.
        self._stop.close()
        self._leave(self)
        # Who keeps results need not keep the restorer with them.
        self._withdraw = self._leave = _nothing
        if error is None:
            self.set_result(result)  # type: ignore[arg-type]  # None if R is
        else:
            self.set_exception(error)


def _nothing(_: object) -> bool:
    return False
