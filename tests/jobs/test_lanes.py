"""Several images, or frames, in the network at a time: order, memory, failures and early ends."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from clips import VARIABLE, assert_inverted, clip
from inverter import Inverter, files, level, picture

from maxim_deploy import BackendError, FileProgress, ImageTooLargeError, restore_file, restore_files
from maxim_deploy.jobs.background import in_order
from maxim_deploy.jobs.files_run import MANY


class Meeting:
    """Calls of the network that wait until so many are there, if the last ones are to come."""

    def __init__(self, inverter: Inverter, count: int) -> None:
        self.most = self.now = 0
        self.threads: set[int] = set()
        self._count, self._lock = count, threading.Condition()
        inverter.on_image = self.meet

    def meet(self, _: np.ndarray) -> None:
        with self._lock:
            self.threads.add(threading.get_ident())
            self.now += 1
            self.most = max(self.most, self.now)
            self._lock.notify_all()
            # Those who come too late for a meeting go on after a while.
            self._lock.wait_for(lambda: self.now >= self._count, timeout=0.3)
        time.sleep(0.002)
        with self._lock:
            self.now -= 1


def several(inverter: Inverter, lanes: int, count: int = 9) -> None:
    inverter.info.lanes = lanes
    for index in range(count):
        picture(f"in/{index}.png", 10 + index)


def test_as_many_as_lanes_and_one_more_are_in_the_network(folder: Path, inverter: Inverter):
    several(inverter, 2)
    meeting = Meeting(inverter, 3)
    results = list(restore_files(inverter, "in", "out"))
    assert meeting.most == 3 and threading.get_ident() not in meeting.threads
    assert [result.input for result in results] == [f"in/{k}.png" for k in range(9)]
    assert [level(f"out/{k}.png") for k in range(9)] == [255 - 10 - k for k in range(9)]


def test_one_lane_runs_in_the_thread_of_the_caller(folder: Path, inverter: Inverter):
    several(inverter, 1)
    meeting = Meeting(inverter, 1)
    list(restore_files(inverter, "in", "out"))
    assert meeting.most == 1 and meeting.threads == {threading.get_ident()}


def test_results_come_in_order_whatever_is_done_first(folder: Path, inverter: Inverter):
    several(inverter, 3)
    inverter.on_image = lambda image: time.sleep(0.03 if image[0, 0, 0] % 3 == 1 else 0.0)
    results = list(restore_files(inverter, "in", "out"))
    assert [result.input for result in results] == [f"in/{k}.png" for k in range(9)]


@pytest.mark.parametrize("room", [1, 2])
def test_no_more_are_in_the_network_than_fit_the_memory(folder: Path, inverter: Inverter, room):
    several(inverter, 4)
    inverter.runs_room = room
    meeting = Meeting(inverter, room)
    list(restore_files(inverter, "in", "out"))
    assert meeting.most == room


def test_lanes_are_measured_where_there_is_enough_to_do(folder: Path, inverter: Inverter):
    several(inverter, 1, MANY - 1)
    list(restore_files(inverter, "in", "out"))
    assert inverter.chosen_for == []
    picture("in/one-more.png")
    list(restore_files(inverter, "in", "out"))
    assert inverter.chosen_for == [(4, 6)]
    clip("clip.mp4")
    restore_file(inverter, "clip.mp4", "out.mp4")
    assert len(inverter.chosen_for) == 2


def test_one_that_cannot_be_restored_fails_alone(folder: Path, inverter: Inverter):
    several(inverter, 2)
    Path("in/3.png").write_bytes(b"no image")

    def refuse(image: np.ndarray) -> None:
        if image[0, 0, 0] == 15:
            raise ImageTooLargeError("not even tiles fit")

    inverter.on_image = refuse
    results = list(restore_files(inverter, "in", "out"))
    assert [bool(result.error) for result in results] == [k in (3, 5) for k in range(9)]
    assert len(files("out")) == 7


def test_a_bug_ends_the_run_and_is_raised(folder: Path, inverter: Inverter):
    several(inverter, 2)

    def fail(image: np.ndarray) -> None:
        if image[0, 0, 0] == 13:
            raise ZeroDivisionError

    inverter.on_image = fail
    with pytest.raises(ZeroDivisionError):
        list(restore_files(inverter, "in", "out"))
    assert set(files("out")) <= {"0.png", "1.png", "2.png"}


def test_cancelling_finishes_what_is_in_the_network(folder: Path, inverter: Inverter):
    several(inverter, 2)
    cancel, entered = threading.Event(), []

    def follow(step: FileProgress) -> None:
        if step.result is None:
            entered.append(step.file.name)
            if len(entered) == 4:
                cancel.set()

    results = list(restore_files(inverter, "in", "out", progress=follow, cancel=cancel))
    assert sorted(entered) == files("out") == ["0.png", "1.png", "2.png", "3.png"]
    assert [result.status for result in results] == ["restored"] * 4


def test_closing_early_leaves_nothing_half(folder: Path, inverter: Inverter):
    several(inverter, 2)
    results = restore_files(inverter, "in", "out")
    next(results)
    results.close()  # that no thread is left is seen after each test
    done = files("out")
    assert done[0] == "0.png" and len(done) <= 4
    assert all(level(f"out/{name}") > 200 for name in done)


def test_frames_keep_their_order(folder: Path, inverter: Inverter):
    clip("clip.mp4")
    inverter.info.lanes = 2
    meeting = Meeting(inverter, 3)
    result = restore_file(inverter, "clip.mp4", "out.mp4")
    assert_inverted("out.mp4", VARIABLE)
    assert meeting.most == 3 and result.frames == len(VARIABLE)


def test_frames_before_a_failure_are_kept(folder: Path, inverter: Inverter):
    clip("clip.mp4")
    inverter.info.lanes = 2

    def fail(number: int) -> None:
        if number == 3:
            raise BackendError("the network broke")

    inverter.on_call = fail
    (result,) = restore_files(inverter, "clip.mp4", "out")
    assert result.error and "the network broke" in result.error
    assert result.frames is not None and result.frames <= 3


def test_in_order_takes_no_more_than_it_has_room_for():
    taken = []

    def items():
        for item in range(10):
            taken.append(item)
            yield item

    results = in_order(items(), lambda item: item * item, 2)
    assert next(results) == (0, 0) and len(taken) == 3
    assert [square for _, square in results] == [k * k for k in range(1, 10)]
