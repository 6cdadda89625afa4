"""How far a job is, for whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Bar:
    """How far a command is; shows nothing."""

    def advance(self) -> None:
        """One more item is done."""

    @contextmanager
    def part(self, name: str, total: int | None) -> Iterator[Callable[[], object]]:  # noqa: ARG002
        """While an item is worked on that has parts; call what it yields for each part done.

        Args:
            name: of the item.
            total: how many parts it has, about, or None if nobody knows.
        """
        yield lambda: None
