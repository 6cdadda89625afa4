"""The table of steps, and what is accepted."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from maxim_deploy.accept import models
from maxim_deploy.accept.models import models_of
from maxim_deploy.accept.plan import STEPS, listed
from maxim_deploy.errors import BundleError
from maxim_deploy.runtime.registry import BACKENDS, backend_named
from maxim_deploy.spec.models import DEMO

NAMED = {
    "load", "shapes", "agreement", "lanes", "pending-work", "external-stream", "default-stream",
    "graph", "more-shapes", "out-of-memory", "kill", "close", "refit", "timing-cache",
    "compatibility", "second-gpu", "profile", "peak-memory", "bound", "eager", "tiles",
    "parse", "build", "layers", "little-memory",
}  # fmt: skip
"""What was promised to be accepted."""


def test_everything_promised_is_a_step() -> None:
    names = [step.name for step in STEPS]
    assert set(names) >= NAMED and len(names) == len(set(names))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_is_a_function_for_some_backend(step) -> None:
    module, _, name = step.path.partition(":")
    assert getattr(importlib.import_module(module), name).__doc__
    assert any(step.takes(spec) for spec in BACKENDS)


def steps_of(backend: str) -> set[str]:
    return {step.name for step in STEPS if step.takes(backend_named(backend))}


def test_the_steps_of_a_backend() -> None:
    full, rtx = steps_of("tensorrt"), steps_of("tensorrt-rtx")
    assert full - rtx == {"timing-cache"} and rtx - full == {"kernel-cache", "eager"}
    on_cpu = {
        "load", "shapes", "agreement", "lanes", "more-shapes", "little-memory", "peak-memory",
        "tiles", "close", "kill", "profile", "bound",
    }  # fmt: skip
    assert steps_of("onnxruntime") == on_cpu
    assert steps_of("onnxruntime-cuda") == on_cpu - {"profile"} | {
        "pending-work", "default-stream", "out-of-memory", "second-gpu",
    }  # fmt: skip
    assert on_cpu - steps_of("torch") == {"peak-memory", "profile", "bound"}


def test_an_engine_is_built_before_it_is_used() -> None:
    names = [step.name for step in STEPS]
    first = next(k for k, step in enumerate(STEPS) if step.uses_engine)
    assert names.index("build") < first


def test_the_list() -> None:
    lines = listed().splitlines()
    assert len(lines) == len(STEPS)
    assert lines[0].split()[0] == "parse" and lines[0].endswith("(also without a GPU)")
    (second,) = [line for line in lines if line.startswith("second-gpu")]
    assert second.endswith("tensorrt, tensorrt-rtx, onnxruntime-cuda (two GPUs)")


def test_a_bundle_that_is_named(bundle: Path) -> None:
    (one,) = models_of(bundle, with_large=True, progress=print)
    assert (one.name, one.make(), one.is_large) == ("tiny", bundle, False)
    with pytest.raises(BundleError):
        models_of(bundle / "nothing", with_large=False, progress=print)


@pytest.mark.parametrize("with_large, names", [(False, [DEMO]), (True, [DEMO, "S-2 random"])])
def test_the_models_that_come_with_us(with_large: bool, names: list[str], monkeypatch) -> None:
    made = []
    monkeypatch.setattr(models, "_made", lambda name, progress: made.append(name))
    found = models_of(None, with_large, print)
    assert [model.name for model in found] == names
    assert [model.is_large for model in found] == [False, True][: len(names)]
    assert made == []


def test_bundles_are_kept_in_the_cache(monkeypatch, tmp_path: Path, bundle: Path) -> None:
    from maxim_deploy.benchmarks import artifacts
    from maxim_deploy.spec.bundle import Bundle

    asked = []

    def model_bundle(name, precisions, cache, progress, *, verify: bool) -> Bundle:
        asked.append((name, precisions, cache, verify))
        return Bundle.open(bundle)

    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path))
    monkeypatch.setattr(artifacts, "model_bundle", model_bundle)
    assert [model.make() for model in models_of(None, True, print)] == [bundle, bundle]
    both = ("fp32", "fp16")
    assert asked == [
        (DEMO, both, tmp_path / "accept", True),
        ("S-2", both, tmp_path / "accept", False),
    ]
