"""Steps about engines: with TensorRT for RTX itself where it needs no GPU, with fakes elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engines.bundles import settings as engine_settings
from engines.bundles import tiny_graph, write_bundle

from maxim_deploy.accept import building, engine
from maxim_deploy.accept.building import (
    build_engine_of_bundle,
    build_for_others,
    keep_timings,
    list_layers,
    parse_graphs,
    refit_weights,
)
from maxim_deploy.accept.step import FaultError, Setting, picture
from maxim_deploy.engines.store import add_engine
from maxim_deploy.errors import BundleError, EngineError
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.export_record import EngineRecord

RTX = "tensorrt-rtx"


@pytest.fixture
def tiny(tmp_path: Path) -> Setting:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    return Setting(str(write_bundle(tmp_path / "tiny", tiny_graph())), RTX)


def test_graphs_that_parse(tiny) -> None:
    numbers = parse_graphs(tiny)
    assert numbers["library"].startswith(f"{RTX} ") and numbers["layers"]["fp16.image.onnx"] > 5


def test_a_graph_that_the_parser_refuses(tiny, monkeypatch) -> None:
    refused = SimpleNamespace(errors=("stages/0/Conv_0 Conv: no",), network=None)
    monkeypatch.setattr(building, "parse_graph", lambda *_: refused)
    with pytest.raises(FaultError, match=r"fp16.image.onnx \| stages/0/Conv_0 Conv: no"):
        parse_graphs(tiny)


def test_an_engine_and_its_layers(tiny) -> None:
    numbers = build_engine_of_bundle(tiny)
    assert numbers["engine_bytes"] > 1000 and numbers["activation_bytes"] >= 0
    listed = list_layers(tiny)
    assert listed["layers"] > 0 and "float16" in " ".join(listed["types"])


def test_a_network_that_is_not_the_exported_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    wide = "[stages/0/Cast_1] wide_again = Cast<to = 1>(low) " \
           "[stages/0/Exp_0] grown = Exp(wide_again) " \
           "[stages/0/Cast_2] moved = Cast<to = 10>(grown)"  # fmt: skip
    folder = write_bundle(tmp_path / "stray", tiny_graph(stray=wide))
    with pytest.raises(EngineError, match="float32 outside the decision table"):
        build_engine_of_bundle(Setting(str(folder), RTX))


def test_an_engine_without_a_list_of_layers(tiny) -> None:
    add_engine(Path(tiny.bundle), engine_settings(profiling_verbosity="none"))
    for listed in Path(tiny.bundle).rglob("*.layers.json"):
        listed.unlink()
    with pytest.raises(FaultError, match="lists no layers"):
        list_layers(tiny)


def test_a_bundle_without_graphs_has_no_engine(tiny) -> None:
    bundle = Bundle.open(tiny.bundle)
    Bundle(bundle.path, replace(bundle.manifest, graphs=[])).write()
    with pytest.raises(BundleError, match="no graph to build an engine from"):
        build_engine_of_bundle(tiny)


@pytest.mark.parametrize("io", ["image", "tensor"])
def test_an_engine_of_the_form_that_is_there(with_engine, monkeypatch, io: str) -> None:
    bundle = Bundle.open(with_engine(RTX).bundle)
    (entry,) = bundle.manifest.engines
    engines = [entry, replace(entry, library="tensorrt", io="tensor"), replace(entry, io=io)]
    Bundle(bundle.path, replace(bundle.manifest, engines=engines)).write()
    asked = []
    monkeypatch.setattr(
        engine, "add_engine", lambda _, s, options: asked.append(s) or (entry, True)
    )
    engine.build(bundle.path, RTX, engine.PROFILE)
    assert [(one.precision, one.io) for one in asked] == [("fp16", io)]


def test_engines_are_built_beside(with_engine) -> None:
    setting = with_engine(RTX)
    with engine.bundle_without_engines(setting) as copy:
        assert Bundle.open(copy).manifest.engines == [] and not (copy / "engines").exists()
    assert len(Bundle.open(setting.bundle).manifest.engines) == 1
    assert not copy.exists()


# ------------------------------------------------------------------ engines that need a GPU


class Builder:
    """Stands in for `build` and for running what it built."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.built: list[dict[str, Any]] = []
        self.stripped_bytes, self.levels, self.saves = 10, 0, True
        patch.setattr(building, "build", self.build)
        patch.setattr(building, "_restored", self.restored)

    def build(self, bundle: Path, library: str, profile: str, **settings: Any) -> Any:
        assert Bundle.open(bundle).manifest.engines == [] and profile == engine.FIXED
        options = settings.pop("options", None)
        if options and self.saves:
            options.timing_cache.write_bytes(b"timings")
        self.built.append(settings)
        size = self.stripped_bytes if settings.get("strip_weights") else 100
        return SimpleNamespace(bytes=size, built=EngineRecord(build_seconds=1.0), precision="fp16")

    def restored(self, bundle: Path, setting: Setting) -> np.ndarray:
        special = self.built and len(self.built[-1]) > 1
        return picture((64, 64)) // 2 + np.uint8(self.levels if special else 0)


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    return Builder(monkeypatch)


def test_a_refit(builder, with_engine) -> None:
    assert refit_weights(with_engine(RTX)) == {"stripped_bytes": 10, "whole_bytes": 100}
    assert [one.get("strip_weights", False) for one in builder.built] == [True, False]


def test_a_refit_with_wrong_weights(builder, with_engine) -> None:
    builder.levels = 9
    with pytest.raises(FaultError, match=r"engines refitted and whole \| 9.00 levels apart"):
        refit_weights(with_engine(RTX))


def test_weights_that_were_left_in(builder, with_engine) -> None:
    builder.stripped_bytes = 100
    with pytest.raises(FaultError, match="is no smaller than one with"):
        refit_weights(with_engine(RTX))


def test_timings_that_are_kept(builder, with_engine) -> None:
    numbers = keep_timings(with_engine("tensorrt"))
    assert numbers == {"cache_bytes": len(b"timings"), "first_s": 1.0, "second_s": 1.0}


def test_timings_that_are_not_saved(builder, with_engine) -> None:
    builder.saves = False
    with pytest.raises(FaultError, match=r"timing cache \| the build saved none"):
        keep_timings(with_engine("tensorrt"))


@pytest.mark.parametrize("library", building.KINDS)
def test_engines_for_others(builder, with_engine, library: str) -> None:
    numbers = build_for_others(with_engine(library))
    for settings, built in zip(building.KINDS[library], builder.built, strict=True):
        (name,) = settings
        assert built == {**settings, **building.FAST} and numbers[f"{name}_levels"] == 0


@pytest.mark.parametrize("library", building.KINDS)
def test_an_engine_for_others_that_differs(builder, with_engine, library: str) -> None:
    builder.levels = 40
    with pytest.raises(FaultError, match=r"engines with .* and without \| 40.00 levels apart"):
        build_for_others(with_engine(library))


def test_the_settings_of_all_kinds_exist() -> None:
    for library, kinds in building.KINDS.items():
        for kind in kinds:
            asked = {"library": library, "profiles": (engine.FIXED,), **kind, **building.FAST}
            assert engine_settings(*asked.pop("profiles"), **asked).library == library


def test_what_an_engine_makes(trt, with_engine) -> None:
    setting = with_engine("tensorrt")
    restored = building._restored(Path(setting.bundle), setting)
    assert np.array_equal(restored, 255 - picture((256, 256)))
