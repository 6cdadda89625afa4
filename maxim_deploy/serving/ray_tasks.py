"""Which worker restores which file, and what becomes of the files of a worker that is lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence

PLACES = 3
"""Files that a worker has at a time: one is read, one is in the network, one is written."""

MOST_LOSSES = 3
"""Workers that a file may cost; it is given up with the next one."""


class Tasks:
    """Files that wait, and files that workers have. A file is an index into a list.

    A file that was with a lost worker is restored again, alone: if that worker is lost too, the
    file did it, or bad luck did. After some more losses the file is given up.

    Args:
        needs_worker_alone: of each file, whether its worker takes no other one meanwhile.
    """

    def __init__(self, needs_worker_alone: Sequence[bool]) -> None:
        self._is_alone = dict(enumerate(needs_worker_alone))
        self._waiting = deque(self._is_alone)
        self._suspects: deque[int] = deque()
        self._with: dict[Hashable, set[int]] = {}
        self._losses: Counter[int] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether no file waits, and no worker has one."""
        return not (self._waiting or self._suspects or self.is_under_way)

    @property
    def is_under_way(self) -> bool:
        """Whether any worker has a file."""
        return any(self._with.values())

    def next_for(self, worker: Hashable) -> int | None:
        """A file for a worker, which has it from now on; None if there is none for it now."""
        has = self._with.setdefault(worker, set())
        # Suspects come last: what kills workers should not keep the other files from them.
        queue = self._waiting or self._suspects
        if not queue or len(has) == PLACES or any(self._is_alone[file] for file in has):
            return None
        if has and self._is_alone[queue[0]]:
            return None
        file = queue.popleft()
        has.add(file)
        return file

    def done(self, worker: Hashable, file: int) -> None:
        """A worker has finished a file, or has left it."""
        self._with[worker].discard(file)

    def lost(self, worker: Hashable, file: int) -> bool:
        """A worker was lost while it had a file; returns whether the file is restored again."""
        self.done(worker, file)
        self._losses[file] += 1
        if self._losses[file] > MOST_LOSSES:
            return False
        self._is_alone[file] = True
        self._suspects.append(file)
        return True

    def losses_of(self, file: int) -> int:
        """Workers that were lost while they had a file."""
        return self._losses[file]
