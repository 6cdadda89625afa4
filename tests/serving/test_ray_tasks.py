"""Which worker gets which file, and what becomes of those of a lost worker."""

from __future__ import annotations

from maxim_deploy.serving.ray_tasks import MOST_LOSSES, PLACES, Tasks


def all_for(tasks: Tasks, worker: str) -> list[int]:
    """What a worker is given at once."""
    given = []
    while (file := tasks.next_for(worker)) is not None:
        given.append(file)
    return given


def test_a_worker_has_a_few_files_and_gets_another_for_each_that_is_done() -> None:
    tasks = Tasks([False] * (PLACES + 2))
    assert all_for(tasks, "a") == [*range(PLACES)]
    assert all_for(tasks, "b") == [PLACES, PLACES + 1]
    tasks.done("a", 0)
    assert tasks.next_for("a") is None and not tasks.is_empty
    for file in range(PLACES + 2):
        tasks.done("a" if file < PLACES else "b", file)
    assert tasks.is_empty and not tasks.is_under_way


def test_a_video_has_a_worker_for_itself() -> None:
    tasks = Tasks([False, True, False])
    assert all_for(tasks, "a") == [0]  # not beside a picture
    assert all_for(tasks, "b") == [1]
    assert all_for(tasks, "b") == []
    assert all_for(tasks, "c") == [2]


def test_files_of_a_lost_worker_come_last_and_alone() -> None:
    tasks = Tasks([False] * (PLACES + 2))
    for file in all_for(tasks, "a"):
        assert tasks.lost("a", file)
    assert all_for(tasks, "b") == [PLACES, PLACES + 1]  # no suspect beside others
    tasks.done("b", PLACES)
    tasks.done("b", PLACES + 1)
    assert all_for(tasks, "b") == [0]
    tasks.done("b", 0)
    assert all_for(tasks, "b") == [1]


def test_a_file_that_goes_on_to_cost_workers_is_given_up() -> None:
    tasks = Tasks([False])
    for _ in range(MOST_LOSSES):
        assert tasks.next_for("a") == 0 and tasks.lost("a", 0)
    assert tasks.next_for("a") == 0 and not tasks.lost("a", 0)
    assert tasks.losses_of(0) == MOST_LOSSES + 1
    assert tasks.is_empty
