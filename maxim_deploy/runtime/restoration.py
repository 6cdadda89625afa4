"""The future of a submitted picture. It can be cancelled while it waits and while it runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from maxim_deploy.errors import CancelledError
from maxim_deploy.runtime.turns import Stop

R = TypeVar("R")


class Deferred(Exception):  # noqa: N818 - no error: the work is to be done again, elsewhere
    """A picture of many runs would have to wait for another one. It has not started."""


class Restoration(Future[R], Generic[R]):
    """The result of `Restorer.submit`: a `concurrent.futures.Future` of the restored picture.

    Unlike other futures it can be cancelled while it runs. After an early end, `result` raises and
    `exception` returns the reason: at once if the picture waits, and soon if it runs.

    Args:
        stop: ends the call of this picture.
        withdraw: removes it from the queue; returns whether it was there.
        leave: called once, before the result is visible.
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
        """Cancel the picture, waiting or running.

        Returns:
            True if `result` raises `CancelledError` now or soon. False if the picture is done or
            has ended for another reason.
        """
        self.end(CancelledError("the picture was cancelled before it was restored"))
        return isinstance(self._stop.reason, CancelledError)

    def cancelled(self) -> bool:
        """Whether the picture was cancelled and has ended."""
        return self.done() and isinstance(self._stop.reason, CancelledError)

    def result(self, timeout: float | None = None) -> R:
        """Wait for the restored picture. Ctrl-C during the wait cancels it.

        Args:
            timeout: seconds to wait here. The picture continues afterwards. The `timeout` of
                `submit` ends the picture itself.

        Raises:
            TimeoutError: the picture is not done after `timeout`.
            CancelledError: the picture was cancelled.
            DeadlineError: the `timeout` of `submit` has passed.
            BaseException: exception of the call.
        """
        try:
            return super().result(timeout)
        except Exception:
            raise
        except BaseException:  # an interruption of the wait, unless the call raised it
            self.cancel()
            raise
        finally:
            # Break the cycle: the traceback of the future's exception has this frame.
            self = None  # type: ignore[assignment]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception of `result`, or None. Raises CancelledError itself, as other futures do."""
        error = super().exception(timeout)
        if isinstance(error, CancelledError) and self.cancelled():
            raise error
        return error

    def end(self, reason: BaseException) -> None:
        """End it early. The first reason counts."""
        withdraw = self._withdraw
        if self._stop.set(reason) and withdraw(self):
            self._complete(None, reason)

    def restore(self, work: Callable[[], R]) -> None:
        """Complete it with the result or exception of `work`, or with the reason of its early end.

        Raises:
            Deferred: `work` raised it, and nothing is completed.
        """
        result: R | None = None
        error: BaseException | None = None
        try:
            result = work()
        except Deferred:
            raise
        except BaseException as raised:
            error = raised
        reason = self._stop.close()
        if reason is not None:
            # A kept future must not keep a cancelled picture in memory.
            error = reason.with_traceback(None)
            error.__context__ = None
        self._complete(result, error)
        # Break the cycle: the traceback of the future's exception has this frame.
        del error, reason, work
        self = None  # type: ignore[assignment]

    def _complete(self, result: R | None, error: BaseException | None) -> None:
        # First: a caller that waits for the result must then find room in the queue.
        self._stop.close()
        self._leave(self)
        # A kept result must not keep the restorer alive.
        self._withdraw = self._leave = _nothing
        if error is None:
            self.set_result(result)  # type: ignore[arg-type]  # None if R is
        else:
            self.set_exception(error)


def _nothing(_: object) -> bool:
    return False
