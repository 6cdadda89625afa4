"""What low precision costs, how large values get, and why the mean is an island."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import reference

from maxim_deploy.errors import ExportError
from maxim_deploy.graph.precision.compare import compare_graphs, difference
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.magnitudes import magnitudes, with_safe_range
from maxim_deploy.graph.precision.pictures import probe_pictures
from maxim_deploy.graph.precision.session import open_session
from maxim_deploy.graph.precision.simulated import simulated_in_float32
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.graph.precision.verify import verify_types

ONE_STEP = 1 / 255


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return reference.load("demo_expected")


@pytest.fixture(scope="module")
def noisy(expected) -> np.ndarray:
    """A real photograph with noise, 256x384."""
    return np.ascontiguousarray(expected["noisy"].transpose(0, 3, 1, 2))


def pictures_of(photo: np.ndarray) -> dict[str, np.ndarray]:
    return probe_pictures({"photo": photo}, 128, 192)


def test_float16_demo(demo, expected, noisy) -> None:
    """Simulated precision judges: on a CPU ONNX Runtime drops casts, and reports 10 dB more."""
    low = low_precision(demo, default_table("fp16"))
    simulated = simulated_in_float32(low)
    images = {"noisy": noisy, **pictures_of(expected["clean_u8"][0])}
    stored = compare_graphs(simulated, demo, images)
    for name, found in stored.items():
        assert found.psnr >= 60 and found.max_error <= ONE_STEP, name
    assert compare_graphs(low, demo, {"noisy": noisy})["noisy"].psnr >= stored["noisy"].psnr


def test_float16_does_not_change_the_quality(demo, expected, noisy) -> None:
    clean = expected["clean_u8"].transpose(0, 3, 1, 2) / np.float32(255)
    simulated = simulated_in_float32(low_precision(demo, default_table("fp16")))
    quality = [
        difference(open_session(model).run(None, {"image": noisy})[0], clean).psnr
        for model in (demo, simulated)
    ]
    assert quality[0] > 30 and abs(quality[1] - quality[0]) < 0.01


def test_bfloat16_demo(demo, noisy) -> None:
    """Seen: 50.0 dB and a largest error of 1.5e-2."""
    simulated = simulated_in_float32(low_precision(demo, default_table("bf16")))
    found = compare_graphs(simulated, demo, {"noisy": noisy})["noisy"]
    assert 48 < found.psnr < 60 and found.max_error <= 2e-2


@pytest.mark.parametrize(
    ("low", "kind"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)]
)
def test_simulated_precision_rounds_every_value(make_graph, low: str, kind) -> None:
    model = make_graph(
        "[m] x = Mul (image, factor)\n[t] y = Transpose <perm = [0, 1, 3, 2]> (x)\n"
        "[a] restored = Add (y, offset)",
        factor=1 / 3,
        offset=0.1,
    )
    converted = low_precision(model, PrecisionTable(low, ()))
    image = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    (found,) = open_session(simulated_in_float32(converted)).run(None, {"image": image})
    by_hand = image.astype(kind) * kind(1 / 3)  # each product and each sum is rounded once
    by_hand = by_hand.transpose(0, 1, 3, 2) + kind(0.1)
    assert np.array_equal(found, by_hand.astype(np.float32))


def test_magnitudes_by_hand(make_graph) -> None:
    model = make_graph(
        """
        [shift] x = Sub (image, three)
        [turn] y = Transpose <perm = [0, 1, 3, 2]> (x)
        [scale] z = Mul (y, ten)
        [join] j = Concat <axis = 1> (z, image)
        [half] a, b = Split <axis = 1, num_outputs = 2> (j)
        [square] restored = Mul (a, b)
        """,
        three=3.0,
        ten=10.0,
    )
    black, white = (np.full((1, 3, 8, 8), value, np.float32) for value in (0, 1))
    found = magnitudes(model, [white, black])
    assert found == {
        "image": 1, "x": 3, "y": 3, "z": 30, "j": 30, "a": 30, "b": 30, "restored": 20,
    }  # fmt: skip
    assert magnitudes(model, [white])["x"] == 2
    with pytest.raises(ExportError, match="no picture"):
        magnitudes(model, [])


def test_a_value_that_is_not_finite(make_graph) -> None:
    model = make_graph("[d] x = Div (image, image)\n[m] restored = Mul (x, two)", two=2.0)
    with pytest.raises(ExportError, match="x is not finite in float32 already"):
        magnitudes(model, [np.zeros((1, 3, 8, 8), np.float32)])


def test_values_near_the_end_of_the_range_become_islands(make_graph) -> None:
    model = make_graph(
        """
        [grow] x = Mul (image, much)
        [turn] y = Transpose <perm = [0, 1, 3, 2]> (x)
        [shrink] z = Mul (y, little)
        [last] restored = Add (z, image)
        """,
        much=60000.0,
        little=1e-5,
    )
    table, white = PrecisionTable("float16", ()), np.ones((1, 3, 8, 8), np.float32)
    seen = magnitudes(model, [white])
    guarded = with_safe_range(table, model, seen)
    added = [(d.pattern, d.type, d.value) for d in guarded.decisions]
    assert added == [(name, "float32", None) for name in ("grow", "turn", "shrink")]
    verify_types(low_precision(model, guarded), guarded)
    assert with_safe_range(guarded, model, seen) == guarded
    bfloat16 = PrecisionTable("bfloat16", ())
    assert with_safe_range(bfloat16, model, seen) == bfloat16


def test_an_overflow_is_refused(make_graph) -> None:
    model = make_graph(
        "[grow] x = Mul (image, much)\n[shrink] restored = Div (x, much)", much=60000.0
    )
    low = low_precision(model, PrecisionTable("float16", ()))
    picture = {"bright": np.full((1, 3, 8, 8), 2, np.float32)}
    with pytest.raises(ExportError, match=r"picture 'bright': 192 of 192 values of the result are"):
        compare_graphs(simulated_in_float32(low), model, picture)


def test_difference() -> None:
    a = np.array([0.0, 0.5, 1.5, -1.0], np.float32)
    b = np.array([0.0, 0.4, 1.0, 0.0], np.float32)
    found = difference(a, b)
    assert found.max_error == pytest.approx(0.1) and found.mean_error == pytest.approx(0.025)
    assert found.psnr == pytest.approx(-10 * math.log10(0.01 / 4))
    assert difference(a, a).psnr == math.inf
    with pytest.raises(ExportError, match=r"shapes \(4,\) and \(3,\)"):
        difference(a, b[:3])
    with pytest.raises(ExportError, match="1 of 4 values of the expected result"):
        difference(a, np.where(b == 1, np.nan, b))


def test_pictures() -> None:
    photo = np.arange(40 * 90 * 3, dtype=np.uint8).reshape(40, 90, 3)
    pictures = probe_pictures({"photo": photo}, 64, 64)
    assert {p.shape for p in pictures.values()} == {(1, 3, 64, 64)}
    assert {p.dtype for p in pictures.values()} == {np.dtype(np.float32)}
    middle = pictures["photo"][0, :, 12:52].transpose(1, 2, 0) * 255
    assert np.array_equal(middle.round(), photo[:, 13:77])
    assert pictures["black"].max() == 0 and pictures["white"].min() == 1
    checkers = pictures["checkerboard"][0, 0]
    assert np.array_equal(checkers[:-1], 1 - checkers[1:]) and checkers.mean() == 0.5
    assert set(np.unique(pictures["saturated noise"])) == {0, 1}


PIXELS = 2176 * 3856


@pytest.mark.parametrize(("value", "kept"), [(1.0, 2048), (0.1, 256), (8.0, 16384)])
def test_float16_cannot_average_a_4k_frame(value: float, kept: int) -> None:
    """One after the other, equal terms no longer count from 2048 of them on; in a tree of 1024
    lanes the partial sums leave the range; scaled first, a term is too small to count at all."""
    terms = np.full(PIXELS, value, np.float16)
    running = np.add.accumulate(terms, dtype=np.float16)[-1]
    assert running == kept and float(running) / PIXELS < 1e-3 * value
    with np.errstate(over="ignore"):
        lanes = np.add.accumulate(terms.reshape(-1, 1024), axis=0, dtype=np.float16)[-1]
        while lanes.size > 1:
            lanes = lanes[::2] + lanes[1::2]
    assert np.isinf(lanes[0])
    scaled = np.add.accumulate(terms * np.float16(1 / PIXELS), dtype=np.float16)[-1]
    assert scaled < 1e-3 * value


def test_table_number_of_the_mean() -> None:
    (number,) = (d.value for d in default_table("fp16").decisions if d.pattern == "spatial-mean")
    running = np.add.accumulate(np.ones(PIXELS, np.float16), dtype=np.float16)[-1]
    assert number == 1 - float(running) / PIXELS
