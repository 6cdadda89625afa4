"""Engine settings, recipes, amounts, and the choice among engines."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
from spec.samples import asked, entry

from maxim_deploy.errors import UsageError
from maxim_deploy.spec.decoding import decoded, encoded
from maxim_deploy.spec.engine_settings import (
    EngineSettings,
    engine_settings_from,
    read_engine_recipe,
)
from maxim_deploy.spec.engines import EngineEntry, engine_for
from maxim_deploy.spec.profiles import Shape
from maxim_deploy.spec.quantities import bytes_from, readable_bytes, seconds_from
from maxim_deploy.spec.recipes import read_export_recipe

RECIPES = sorted((Path(__file__).parents[2] / "engines").glob("*.toml"))


def test_there_are_recipes_for_the_usual_targets() -> None:
    assert {path.stem for path in RECIPES} == {
        "photo-rtx", "video-rtx", "tiles-rtx", "datacentre-tensorrt",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes(path: Path) -> None:
    settings = engine_settings_from(read_engine_recipe(path))
    assert settings.library in path.stem.replace("rtx", "tensorrt-rtx") and settings.profiles
    assert not settings.tf32
    assert read_export_recipe(path).model is None
    assert f"`{path.name}`" in (path.parent / "README.md").read_text()


def test_every_setting_is_a_key_of_recipes() -> None:
    defaults = asked()
    values = {f.name: getattr(defaults, f.name) for f in fields(EngineSettings)}
    values["profiles"] = ["photo"]
    values["workspace"] = "4GiB"
    assert engine_settings_from(values).workspace == 4 * 2**30


@pytest.mark.parametrize(
    "text, message",
    [
        ("[engine]\nlibrary = 'tensorrt-rtx'\nprofile = ['photo']",
         r"unknown key 'profile' \(did you mean 'profiles'\?\); known: library, profiles, "),
        ("[engine]\nprofiles = ['photo']", "name the engine library: tensorrt, tensorrt-rtx"),
        ("[engine]", "name the engine library: tensorrt, tensorrt-rtx"),
        ("[engine]\nlibrary = 'tensorrt_rtx'", r"unknown engine library 'tensorrt_rtx' \(did you"),
        ("[engine]\nlibrary = 'tensorrt'\nprofiles = 'photo'", "profiles must be a list of"),
        ("[engine]\nlibrary = 'tensorrt'\nprofiles = []", "needs at least one profile"),
        ("[engine]\nlibrary = 'tensorrt'\ntf32 = 1", "tf32 must be true or false, not 1"),
        ("[engine]\nlibrary = 'tensorrt'\noptimization_level = true", "a number from 0 to 5"),
        ("engine = 3", "engine must be a table"),
        ("[engine", "recipe .*bad.toml"),
    ],
)  # fmt: skip
def test_bad_recipes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_engine_recipe(path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimization_level": 6}, "optimization_level is 0 to 5, not 6"),
        ({"aux_streams": 8}, "aux_streams is 0 to 7, not 8"),
        ({"targets": ["sm86"]}, "unknown target 'sm86': a compute capability such as 8.9"),
        ({"targets": ["current", "8.6"]}, "'current' excludes other targets"),
        ({"targets": ["8.6", "8.6"]}, "a target is named twice"),
        ({"hardware_compatibility": "ampere"}, "did you mean 'ampere-plus'"),
        ({"hardware_compatibility": "ampere-plus"}, "tensorrt-rtx has no hardware_compatibility"),
        ({"version_compatible": True}, "tensorrt-rtx has no version_compatible"),
        ({"library": "tensorrt", "targets": ["8.6"]}, "tensorrt has no targets; it builds for the"),
        ({"profiling_verbosity": "all"}, "unknown profiling_verbosity"),
        ({"cuda_graphs": "on"}, "unknown cuda_graphs"),
        ({"precision": "int8"}, "unknown precision"),
        ({"io": "images"}, "did you mean 'image'"),
        ({"workspace": "4 gigs"}, "workspace must be an amount such as 4GiB"),
        ({"workspace": 0}, "more than zero"),
    ],
)
def test_bad_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked(**options)


def test_amounts() -> None:
    assert bytes_from("4GiB", "x") == bytes_from("4 gib", "x") == 4 * 2**30
    assert bytes_from("4Gi", "x") == 4 * 2**30 and bytes_from("4G", "x") == 4 * 10**9
    assert bytes_from("500MB", "x") == 500_000_000 and bytes_from("1.5kB", "x") == 1500
    assert bytes_from(7, "x") == bytes_from("7", "x") == 7
    assert seconds_from("5m", "x") == 300 and seconds_from("1.5h", "x") == 5400
    assert seconds_from("90", "x") == seconds_from("90s", "x") == 90
    for bad in ("", "five", "-1", "1mm", True, "nan"):
        with pytest.raises(UsageError, match="x must be"):
            seconds_from(bad, "x")
    assert [readable_bytes(n) for n in (999, 1500, 20_048_788, 369_099_264, 5_300_000_000)] == [
        "999 bytes", "1.5 kB", "20 MB", "369 MB", "5.3 GB",
    ]  # fmt: skip
    assert [readable_bytes(n) for n in (999_499, 999_500, 999_999_999, 999_600 * 10**6)] == [
        "999 kB", "1 MB", "1 GB", "1000 GB",
    ]  # fmt: skip
    assert bytes_from("0.1", "x") == 1  # nothing that is more than zero is zero bytes


def test_choice_among_engines() -> None:
    engines = [
        entry("wide", "photo"),
        entry("both", "64x64:512x512:1024x1024", "1080p"),
        entry("exact", "512x512"),
        entry("older", "700x700"),
        entry("newer", "700x700"),
        entry("other", "4k", library="tensorrt"),
    ]

    def chosen(*shape: int, **wanted: str) -> tuple[str, int] | None:
        found = engine_for(engines, Shape(*shape), **wanted)
        return found and (found[0].file, found[1])

    assert chosen(1, 512, 512) == ("exact", 0)
    assert chosen(1, 513, 512) == ("both", 0)
    assert chosen(1, 1080, 1920) == ("both", 1)
    assert chosen(1, 1081, 1000) == ("wide", 0)
    assert chosen(1, 700, 700) == ("newer", 0)
    assert chosen(2, 512, 512) is None
    assert chosen(1, 2160, 3840, library="tensorrt") == ("other", 0)
    assert chosen(1, 2160, 3840, library="tensorrt-rtx") is None


def test_entry_round_trip() -> None:
    one = entry("x", "photo", made_of={"graph": "a"}, notes=["n"])
    assert "built" not in encoded(one)  # it stands in `export.json`
    assert replace(decoded(EngineEntry, encoded(one)), built=one.built) == one
