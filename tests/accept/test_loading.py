"""Steps about results: each passes where results are right, and fails where they are not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from accept.fakes import (
    Black,
    Brighter,
    NotFinite,
    Refusing,
    Same,
    SeamsInTiles,
    WrongAtOneHeight,
    WrongInBatches,
    on_gpu,
)

from maxim_deploy.accept import loading
from maxim_deploy.accept.loading import (
    agree_in_tiles,
    agree_with_float32,
    load_and_run,
    run_on_second_gpu,
    run_shapes,
)
from maxim_deploy.accept.step import CannotRunError, FaultError, check_restored, picture
from maxim_deploy.errors import BackendError, BundleError


def test_a_bundle_that_loads(on) -> None:
    numbers = load_and_run(on(Same))
    assert (numbers["library"], numbers["device"], numbers["io"]) == ("fake 1", "cpu", "tensor")
    assert numbers["load_s"] > 0 and numbers["first_call_s"] > 0


@pytest.mark.parametrize(
    "kind, why",
    [
        (Refusing, "it does not load"),
        (NotFinite, "NaN or infinite"),
        (Black, "is 0.0 everywhere"),
    ],
)
def test_a_bundle_that_does_not(on, kind, why: str) -> None:
    with pytest.raises((FaultError, BackendError), match=why):
        load_and_run(on(kind))


def test_what_no_result_is() -> None:
    image = picture((8, 9))
    check_restored(image, image)
    with pytest.raises(FaultError, match=r"uint8 \(9, 8, 3\) \| expected uint8 \(8, 9, 3\)"):
        check_restored(image.transpose(1, 0, 2), image)
    with pytest.raises(FaultError, match="float32 .* expected uint8"):
        check_restored(image.astype("f4"), image)
    unit = image / 255
    with pytest.raises(FaultError, match="NaN or infinite"):
        check_restored(np.full_like(unit, np.inf), unit)


def test_every_shape(on) -> None:
    assert run_shapes(on(Same)) == {"shapes": len(loading.SIZES)}


@pytest.mark.parametrize(
    "kind, why",
    [(WrongInBatches, "a batch of two and single runs"), (WrongAtOneHeight, r"\(65, 63, 3\)")],
)
def test_a_shape_that_is_wrong(on, kind, why: str) -> None:
    with pytest.raises(FaultError, match=why):
        run_shapes(on(kind))


def test_the_image_form_takes_8_bits_alone(on) -> None:
    class OfBytes(Same):
        io = "image"

    assert run_shapes(on(OfBytes))["shapes"] == len(loading.SIZES)


def test_agreement(on) -> None:
    numbers = agree_with_float32(on(Same))
    assert numbers["reference"] == "onnxruntime"
    assert numbers["max_error_levels"] == 0


def test_wrong_values(on) -> None:
    with pytest.raises(FaultError, match=r"256x256|37x90 against onnxruntime fp32 \| max error"):
        agree_with_float32(on(Brighter))


def test_the_float32_graph_is_held_against_pytorch(bundle, monkeypatch) -> None:
    asked, plain = [], loading.load

    def load(bundle: str, **options: object):
        asked.append(options)
        return plain(bundle, backend="onnxruntime")

    monkeypatch.setattr(loading, "load", load)
    assert agree_with_float32(loading.Setting(str(bundle), "onnxruntime"))["reference"] == "torch"
    assert asked == [{"backend": "torch", "precision": "fp32"}]


def test_nothing_to_compare_with_is_no_fault(on, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BundleError("it has no fp32 graph")

    setting = on(Same)
    monkeypatch.setattr(loading, "load", refuse)
    with pytest.raises(CannotRunError, match="nothing to compare with: it has no fp32 graph"):
        agree_with_float32(setting)


def test_tiles(on) -> None:
    numbers = agree_in_tiles(on(Same))
    assert numbers["tiles"] == 4 and numbers["psnr_db"] > loading.LEAST_DB


def test_seams_between_tiles(on) -> None:
    with pytest.raises(FaultError, match="dB to the whole picture") as failed:
        agree_in_tiles(on(SeamsInTiles))
    assert failed.value.numbers["psnr_db"] < loading.LEAST_DB


def test_tiles_that_nobody_made(on, monkeypatch) -> None:
    setting = on(Same)
    plain = loading.Setting.open

    def without_tiles(self, tile: object):
        return plain(self, tile="off")

    monkeypatch.setattr(loading.Setting, "open", without_tiles)
    with pytest.raises(FaultError, match="expected tiles of 512"):
        agree_in_tiles(setting)


def test_two_gpus(on) -> None:
    numbers = run_on_second_gpu(on(on_gpu(Same)))
    assert numbers == {"device": "cuda:1 NVIDIA L4", "max_difference_levels": 0}


def test_a_second_gpu_that_is_the_first(on) -> None:
    with pytest.raises(FaultError, match=r"runs on cuda:0 L4 \| expected cuda:1"):
        run_on_second_gpu(on(on_gpu(Same, stays_on="cuda:0 L4")))


def test_a_second_gpu_that_computes_something_else(on) -> None:
    def opened(request: SimpleNamespace) -> Same:
        return on_gpu(Brighter if request.device else Same)(request)

    with pytest.raises(FaultError, match=r"the two GPUs \| .* levels apart"):
        run_on_second_gpu(on(opened))
