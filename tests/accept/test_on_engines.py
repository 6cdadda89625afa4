"""Steps that all backends have, on engines of both libraries: fakes that keep every promise."""

from __future__ import annotations

import pytest

from maxim_deploy.accept.lifetime import close_at_once
from maxim_deploy.accept.loading import (
    agree_in_tiles,
    agree_with_float32,
    load_and_run,
    run_shapes,
)
from maxim_deploy.accept.memory import (
    compare_peak_with_plan,
    restore_in_little_memory,
    run_more_shapes_than_kept,
    run_out_of_memory,
)
from maxim_deploy.accept.step import CannotRunError
from maxim_deploy.accept.streams import launch_graph, run_two_lanes

LIBRARIES = ("tensorrt", "tensorrt-rtx")

STEPS = (
    load_and_run,
    run_shapes,
    agree_in_tiles,
    run_two_lanes,
    launch_graph,
    run_more_shapes_than_kept,
    restore_in_little_memory,
    run_out_of_memory,
    compare_peak_with_plan,
    close_at_once,
)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_an_engine_passes(trt, api, with_engine, monkeypatch, step, library: str) -> None:
    monkeypatch.setattr("maxim_deploy.accept.engine.TIMED_S", 0.0)
    numbers = step(with_engine(library))
    assert numbers
    assert api.used() == 0  # and nothing is left on the device


def test_an_engine_without_a_float32_graph_has_nothing_to_agree_with(trt, with_engine) -> None:
    with pytest.raises(CannotRunError, match="nothing to compare with"):
        agree_with_float32(with_engine("tensorrt"))
