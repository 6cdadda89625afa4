from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.bundles import TINY, weights_only

from maxim_deploy.benchmarks import artifacts
from maxim_deploy.benchmarks.artifacts import baseline_file, model_bundle, random_checkpoint
from maxim_deploy.benchmarks.subjects import Subject, baseline_subjects
from maxim_deploy.checkpoints import parameter_shapes
from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.export import BundleSettings
from maxim_deploy.export.deployment import REWRITES, Rewrites
from maxim_deploy.spec.bundle import Bundle


def test_weights_are_complete_ordinary_and_the_same_every_time() -> None:
    arrays, again = random_checkpoint(TINY).arrays, random_checkpoint(TINY).arrays
    assert {path: array.shape for path, array in arrays.items()} == parameter_shapes(TINY)
    for path, array in arrays.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again[path])
        if path.endswith("scale"):
            assert (array == 1).all()


def test_a_bundle_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def export(checkpoint: object, folder: Path, settings: BundleSettings, **_: object) -> None:
        made.append((checkpoint, settings))
        folder.mkdir()
        weights_only(folder)

    monkeypatch.setattr(artifacts, "export_bundle", export)
    for _ in range(2):
        bundle = model_bundle(TINY, ("fp32", "fp16"), tmp_path, lambda _: None)
        assert bundle.manifest.architecture == TINY
    ((checkpoint, settings),) = made
    assert checkpoint.architecture == TINY  # type: ignore[attr-defined]
    assert (settings.precision, settings.io) == (("fp32", "fp16"), ("image", "tensor"))
    other = model_bundle(TINY, ("fp32",), tmp_path, lambda _: None)
    assert other.path != bundle.path and len(made) == 2  # other precisions, another bundle
    assert model_bundle("demo-denoise", ("fp32",), tmp_path, lambda _: None) and len(made) == 3
    assert made[2][0].descriptor.name == "demo-denoise"  # type: ignore[attr-defined]


def test_baselines_come_from_the_literal_weights(tiny_bundle: Bundle, tmp_path: Path) -> None:
    eager = Subject("torch", is_baseline=True)
    file = baseline_file(eager, tiny_bundle, tmp_path, lambda _: None)
    assert file == tiny_bundle.path
    without = Bundle(tiny_bundle.path, replace(tiny_bundle.manifest, source=None))
    with pytest.raises(
        BundleError, match="no literal weights . export it again without --no-source"
    ):
        baseline_file(eager, without, tmp_path, lambda _: None)


def test_names_of_baselines() -> None:
    assert baseline_subjects("torch") == (Subject("torch", "fp32", True),)
    assert baseline_subjects("torch-compile fp16") == (Subject("torch-compile", "fp16", True),)
    assert [one.name for one in baseline_subjects("each")] == list(REWRITES)
    for text, message in {
        "pytorch": "unknown baseline 'pytorch' (did you mean 'torch'?)",
        "literal fp16": "literal exists in fp32 only",
        "torch fp15": "unknown precision 'fp15'",
    }.items():
        with pytest.raises(UsageError) as caught:
            baseline_subjects(text)
        assert message in str(caught.value)


def test_rewrites_of_baselines() -> None:
    assert artifacts._rewrites("literal") is None
    assert artifacts._rewrites("none") == Rewrites.only()
    assert artifacts._rewrites("gemms") == Rewrites.only("gemms")


def test_what_runs_a_subject() -> None:
    assert Subject("literal", is_baseline=True).runner(on_gpu=False) == "onnxruntime"
    assert Subject("gemms", is_baseline=True).runner(on_gpu=True) == "onnxruntime-cuda"
    assert Subject("torch", is_baseline=True).runner(on_gpu=True) == "torch"
    assert Subject("tensorrt", "fp16").runner(on_gpu=True) == "tensorrt"
