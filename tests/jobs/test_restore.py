"""Restoring files from Python: what is kept, what fails and how, progress, and cancellation."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from inverter import Inverter, files, level, picture
from PIL import Image

import maxim_deploy
from maxim_deploy import (
    BackendError,
    CancelledError,
    FileProgress,
    ImageError,
    Picture,
    UsageError,
    read_image,
    read_size,
    restore_file,
    restore_files,
    write_image,
)


def pictures(count: int) -> list[Path]:
    return [picture(f"{index}.png", index) for index in range(count)]


# One file


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".WEBP", ".tif", ".bmp"])
def test_one_file_in_every_format(folder: Path, inverter: Inverter, suffix: str):
    picture("a.jpg", size=(6, 4))
    result = restore_file(inverter, "a.jpg", f"new/b{suffix}")
    assert abs(level(f"new/b{suffix}") - 245) <= 1
    assert (result.input, result.output, result.status) == ("a.jpg", f"new/b{suffix}", "restored")
    assert (result.height, result.width, result.frames, result.fps) == (4, 6, None, None)
    assert 0 < result.network_seconds < result.seconds
    assert result.error is result.cause is None


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK"])
def test_greyness_and_alpha_are_kept(folder: Path, inverter: Inverter, mode: str):
    Image.effect_noise((5, 4), 50).convert("RGBA").convert(mode).save("a.tif")
    before = read_image("a.tif")
    restore_file(inverter, "a.tif", "b.png")
    after = read_image("b.png")
    assert after.is_grey == before.is_grey == (mode in ("L", "LA", "1"))
    assert (after.alpha is None) == (mode not in ("LA", "RGBA"))
    assert np.array_equal(after.alpha, before.alpha)
    assert np.array_equal(after.rgb, 255 - before.rgb)


def test_orientation_is_applied_and_exif_and_profile_are_kept(folder: Path, inverter: Inverter):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    Image.new("RGB", (6, 4), (9, 9, 9)).save("a.jpg", exif=exif, icc_profile=b"a profile")
    result = restore_file(inverter, "a.jpg", "b.png")
    assert (result.height, result.width) == (6, 4)
    after = read_image("b.png")
    assert after.rgb.shape == (6, 4, 3)
    assert after.icc_profile == b"a profile"
    assert b"A camera" in (after.exif or b"")


@pytest.fixture
def sixteen_bit(folder: Path) -> Picture:
    """A picture of 16 bits with alpha, as `a.png`."""
    pytest.importorskip("imagecodecs")
    rgba = np.random.default_rng(0).integers(0, 65536, (5, 6, 4), dtype=np.uint16)
    picture = Picture(rgba[..., :3].copy(), alpha=rgba[..., 3].copy())
    write_image("a.png", picture.rgb, like=picture)
    return picture


@pytest.mark.parametrize("out", ["out/a.png", "b.tif"])
def test_16_bits_go_through_with_every_bit(sixteen_bit: Picture, inverter: Inverter, out: str):
    restore_file(inverter, "a.png", out, compare=True)
    restored = read_image(out)
    assert np.array_equal(restored.rgb, 65535 - sixteen_bit.rgb)
    assert np.array_equal(restored.alpha, sixteen_bit.alpha)
    both = read_image(Path(out).with_name(f"{Path(out).stem}.before-after.png")).rgb
    assert np.array_equal(both, np.concatenate([sixteen_bit.rgb, restored.rgb], axis=1))


def test_before_and_after_beside_a_file_of_another_format(folder: Path, inverter: Inverter):
    Image.new("LA", (3, 2), (10, 0)).save("a.png")
    restore_file(inverter, "a.png", "out/b.webp", compare=True)
    assert files("out") == ["b.before-after.png", "b.webp"]
    both = read_image("out/b.before-after.png")
    assert both.is_grey and both.alpha is None  # what is compared shows, also where it is clear


def test_the_options_of_a_call(folder: Path, inverter: Inverter):
    picture("a.png")
    restore_file(inverter, "a.png", "b.png", rounding="truncate", self_ensemble=True)
    list(restore_files(inverter, "a.png", "out", rounding="truncate"))
    assert inverter.calls == ["truncate ensemble", "truncate"]


@pytest.mark.parametrize(
    ("source", "target", "error", "words"),
    [
        ("none.png", "b.png", ImageError, "'none.png' | cannot be read: No such file"),
        ("bad.png", "b.png", ImageError, "'bad.png' | is damaged or not an image"),
        ("a.png", "b.gif", UsageError, r"suffix '\.gif'"),
        ("a.png", "b.mp4", UsageError, r"suffix '\.mp4'"),
        ("a.png", "./a.png", UsageError, r"'a\.png' would overwrite an input"),
        ("a.png", "bad.png/b.png", ImageError, "output folder 'bad.png' | cannot be written"),
        ("clear.png", "b.jpg", ImageError, "JPEG cannot hold the transparency"),
    ],
)
def test_what_cannot_be_restored_raises(
    folder: Path, inverter: Inverter, source: str, target: str, error, words: str
):
    picture("a.png")
    Path("bad.png").write_bytes(b"not an image")
    Image.new("RGBA", (3, 3)).save("clear.png")
    with pytest.raises(error, match=words.replace("|", r"\|")):
        restore_file(inverter, source, target)
    assert files(".") == ["a.png", "bad.png", "clear.png"]
    assert inverter.calls == []


@pytest.mark.parametrize("error", [BackendError("it broke"), MemoryError(), OSError("gone")])
def test_a_network_that_fails_raises_its_own_error(folder: Path, inverter: Inverter, error):
    picture("a.png")

    def fail(_: int) -> None:
        raise error

    inverter.on_call = fail
    with pytest.raises(type(error)):
        restore_file(inverter, "a.png", "b.png")
    (result,) = restore_files(inverter, "a.png", "out")
    assert result.cause is error
    assert result.error == f"image 'a.png' | {str(error) or 'not enough memory'}"
    assert result.to_json().keys() == {
        *("input", "output", "status", "error", "height", "width"),
        *("seconds", "network_seconds", "frames", "fps", "left_out"),
    }


def test_more_pixels_than_allowed_are_one_files_failure(folder: Path, inverter: Inverter):
    picture("in/a.png", size=(6, 4))
    picture("in/b.png", size=(6, 5))
    first, second = restore_files(inverter, "in", "out", max_pixels=24)
    assert (first.status, second.status) == ("restored", "failed")
    assert "5x6, 30 pixels, but the limit is 24" in (second.error or "")
    with pytest.raises(ImageError, match="the limit is 23"):
        restore_file(inverter, "in/a.png", "a.png", max_pixels=23)
    with pytest.raises(UsageError, match="max_pixels is 0"):
        restore_files(inverter, "in", "out", max_pixels=0)
    with pytest.raises(ImageError, match="the limit is 23"):
        read_size("in/a.png", max_pixels=23)


def test_a_result_names_what_was_left_out(folder: Path, inverter: Inverter):
    Image.new("RGB", (4, 4)).save("a.jpg", comment="hello")
    assert restore_file(inverter, "a.jpg", "a.png").left_out == []
    (what,) = restore_file(inverter, "a.jpg", "a.webp").left_out
    assert what == "the comments, which WebP output does not keep"


def test_a_file_that_is_cancelled_before_it_begins(folder: Path, inverter: Inverter):
    picture("a.png")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError, match=r"'a\.png' \| was cancelled"):
        restore_file(inverter, "a.png", "b.png", cancel=cancel)
    assert files(".") == ["a.png"]


# Several files


def test_results_in_their_order_and_one_bad_file_stops_no_other(folder: Path, inverter: Inverter):
    pictures(3)
    Path("1.png").write_bytes(b"not an image")
    results = list(restore_files(inverter, ["none.png", "0.png", "1.png", "2.png"], "out"))
    assert [(result.input, result.status) for result in results] == [
        ("none.png", "failed"),
        ("0.png", "restored"),
        ("1.png", "failed"),
        ("2.png", "restored"),
    ]
    assert isinstance(results[2].cause, ImageError)
    assert files("out") == ["0.png", "2.png"]


def test_a_plan_is_restored_as_it_was_planned(folder: Path, inverter: Inverter):
    for name in ("in/a.png", "in/x/b.png"):
        picture(name)
    plan = maxim_deploy.plan_files("in", "out", recursive=True, compare=True)
    results = list(restore_files(inverter, plan))
    assert [result.output for result in results] == ["out/a.png", "out/x/b.png"]
    assert files("out/x") == ["b.before-after.png", "b.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"output": None}, "name the file or folder to write"),
        ({"inputs": "none"}, "pass them to `plan_files`"),
        ({"rounding": "up"}, "rounding must be"),
        ({"tile": 64, "device": 0}, r"options tile, device \| .* loaded already"),
        ({"output": "a.gif"}, r"suffix '\.gif'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(folder: Path, inverter: Inverter, arguments, words):
    picture("a.png")
    given = {"inputs": "a.png", "output": "out", **arguments}
    if given["inputs"] == "none":
        given["inputs"] = maxim_deploy.plan_files("a.png", "out")
    with pytest.raises(UsageError, match=words):
        restore_files(inverter, **given)
    with pytest.raises(UsageError, match="name the file or folder"):
        restore_files(inverter, maxim_deploy.plan_files("a.png", None))
    assert files(".") == ["a.png"]


def test_nothing_is_read_before_the_first_result_is_asked_for(folder: Path, inverter: Inverter):
    pictures(2)
    results = restore_files(inverter, ".", "out")
    assert (inverter.calls, files("out")) == ([], [])
    assert next(results).output == "out/0.png"
    results.close()


def test_a_bundle_is_loaded_once_something_is_to_be_restored(folder: Path, network: Inverter):
    picture("a.png")
    again = {"resume": True, "threads": 2, "tile": 512}
    assert [r.status for r in restore_files("bundle", "a.png", "out", **again)] == ["restored"]
    assert network.loaded == [(Path("bundle"), {"threads": 2, "tile": 512})]
    assert [r.status for r in restore_files("bundle", "a.png", "out", **again)] == ["finished"]
    assert len(network.loaded) == 1


def test_a_picture_is_let_go_of_as_soon_as_it_is_written(folder: Path, inverter: Inverter):
    seen: list[weakref.ref[np.ndarray]] = []
    alive = []

    def count(image: np.ndarray) -> None:
        seen.append(weakref.ref(image))
        alive.append(sum(picture() is not None for picture in seen))

    inverter.on_image = count
    assert len(list(restore_files(inverter, pictures(12), "out"))) == 12
    assert len(alive) == 12 and max(alive) <= 3  # one in the network, two that wait


def test_two_threads_share_a_restorer(folder: Path, inverter: Inverter):
    names = pictures(12)
    outputs: dict[str, list[str | None]] = {}

    def work(out: str) -> None:
        outputs[out] = [result.output for result in restore_files(inverter, names, out)]

    threads = [threading.Thread(target=work, args=[out]) for out in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in ("one", "two"):
        assert outputs[out] == [f"{out}/{name}" for name in names]
        assert [level(f"{out}/{name}") for name in names] == [255 - k for k in range(12)]


# Progress


def test_progress_in_the_callers_thread_and_results_in_the_one_that_wrote_them(
    folder: Path, inverter: Inverter
):
    steps: list[FileProgress] = []
    threads: dict[bool, set[str]] = {False: set(), True: set()}

    def follow(step: FileProgress) -> None:
        steps.append(step)
        threads[step.result is not None].add(threading.current_thread().name)

    results = list(restore_files(inverter, pictures(3), "out", progress=follow))
    assert threads == {
        False: {threading.current_thread().name},
        True: {"maxim-deploy-files_0"},
    }
    assert [step.result for step in steps if step.result] == results
    assert [step.files_done for step in steps if step.result] == [1, 2, 3]
    assert {step.files_total for step in steps} == {3}
    entered = [step for step in steps if not step.result]
    assert [str(step.file) for step in entered] == ["0.png", "1.png", "2.png"]
    assert {(step.frames_done, step.frames_total) for step in steps} == {(None, None)}


def test_files_that_fail_or_are_finished_before_count_too(folder: Path, network: Inverter):
    picture("a.png")
    list(restore_files("bundle", "a.png", "out", resume=True))
    seen = []
    list(
        restore_files(
            "bundle",
            ["a.png", "none.png", picture("b.png")],
            "out",
            resume=True,
            progress=lambda step: seen.append((step.files_done, step.result and step.result.input)),
        )
    )
    assert seen == [(1, "none.png"), (2, "a.png"), (2, None), (3, "b.png")]


@pytest.mark.parametrize("of_result", [False, True])
def test_an_error_of_the_callback_ends_the_run(folder: Path, inverter: Inverter, of_result: bool):
    def follow(step: FileProgress) -> None:
        if (step.result is not None) is of_result and step.files_done:
            raise ZeroDivisionError("of the callback")

    with pytest.raises(ZeroDivisionError, match="of the callback"):
        list(restore_files(inverter, pictures(9), "out", progress=follow))
    assert 1 <= len(files("out")) <= 3


# Ending early


def test_cancelling_finishes_the_current_image(folder: Path, inverter: Inverter):
    cancel = threading.Event()
    inverter.on_call = lambda call: call == 2 and cancel.set()
    results = list(restore_files(inverter, pictures(9), "out", cancel=cancel))
    assert [result.status for result in results] == ["restored"] * 2
    assert files("out") == ["0.png", "1.png"]


def test_a_callback_may_cancel(folder: Path, inverter: Inverter):
    cancel = threading.Event()
    results = restore_files(
        inverter,
        pictures(9),
        "out",
        progress=lambda step: step.files_done == 2 and cancel.set(),
        cancel=cancel,
    )
    assert 2 <= len(list(results)) <= 4


def test_closing_the_iterator_early_leaves_whole_files_only(folder: Path, inverter: Inverter):
    results = restore_files(inverter, pictures(9), "out")
    assert next(results).output == "out/0.png"
    results.close()
    # What had left the network was written.
    assert files("out") == ["0.png", "1.png"]
    assert [level(f"out/{index}.png") for index in range(2)] == [255, 254]


def test_a_bug_in_the_network_is_raised_and_what_is_done_is_kept(folder: Path, inverter: Inverter):
    inverter.on_call = lambda call: 1 // (call - 3)
    with pytest.raises(ZeroDivisionError):
        list(restore_files(inverter, pictures(9), "out"))
    assert files("out") == ["0.png", "1.png"]
