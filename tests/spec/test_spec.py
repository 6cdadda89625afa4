"""The shared words: architectures, models, recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.spec.architecture import VARIANTS, Architecture, architecture_of
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.models import DEMO, MODEL_NAMES, PUBLISHED, check_model_name
from maxim_deploy.spec.recipes import ExportRecipe, read_export_recipe

ROOT = Path(__file__).parents[2]


def test_variants() -> None:
    assert list(VARIANTS) == ["S-1", "S-2", "S-3", "M-1", "M-2", "M-3"]
    assert architecture_of("s-2") == Architecture(32, 2, 2, 2) == VARIANTS["S-2"]
    assert VARIANTS["M-3"].variant == "M-3" and VARIANTS["M-3"].channels(2) == 256
    assert Architecture(8, 1, 1, 1).variant is None
    with pytest.raises(
        UsageError, match=r"unknown variant 'S2' \(did you mean 'S-2'\?\); known: S"
    ):
        architecture_of("S2")


@pytest.mark.parametrize("fields", [(6, 1), (32, 0), (32, 1, 0), (32, 1, 2, -1)])
def test_impossible_architectures(fields) -> None:
    with pytest.raises(UsageError, match="must be"):
        Architecture(*fields)


def test_json_round_trips() -> None:
    architecture = Architecture(8, 2, 1, 3)
    assert Architecture.from_json(architecture.to_json()) == architecture
    descriptor = Descriptor("x", task="denoising", source_sha256="0" * 64)
    assert Descriptor.from_json({**descriptor.to_json(), "noise": "Gaussian"}) == descriptor


def test_eleven_published_models() -> None:
    assert len(PUBLISHED) == 11 and (DEMO, *PUBLISHED) == MODEL_NAMES
    for name, model in PUBLISHED.items():
        assert model.name == name and model.task in name and model.variant in VARIANTS
        assert model.url.startswith("https://storage.googleapis.com/gresearch/maxim/ckpt/")
        assert model.url.endswith("/checkpoint.npz")
    assert PUBLISHED["deblurring-realblur-j"].url.endswith("Deblurring/RealBlur_J/checkpoint.npz")
    with pytest.raises(UsageError, match=r"'deblur-gopro' \(did you mean 'deblurring-gopro'\?\)"):
        check_model_name("deblur-gopro")


def test_one_recipe_per_model() -> None:
    recipes = {path.stem: read_export_recipe(path) for path in (ROOT / "export").glob("*.toml")}
    assert recipes.keys() == set(MODEL_NAMES)
    for name, recipe in recipes.items():
        assert recipe.model == name
        assert recipe.variant == (None if name == DEMO else PUBLISHED[name].variant)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'", r"unknown key 'modle' \(did you mean 'model'\?\)"),
        ("model = 3", "model must be a string"),
        ("precision = 'fp32'", "precision must be a list of strings"),
        ("precision = ['fp23']", r"unknown precision 'fp23' \(did you mean 'fp32'\?\)"),
        ("precision = []", "no precision is chosen"),
        ("io = ['tensr']", "did you mean 'tensor'"),
        ("model = ", "Invalid value"),
        ('checkpoint = "a\\u0000"', "checkpoint must be a path"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_export_recipe(path)
    assert "recipe.toml" in str(caught.value)


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_export_recipe(tmp_path / "none.toml")


def test_command_line_overrides_a_recipe(tmp_path: Path) -> None:
    base = ExportRecipe(model="demo-denoise", variant="S-2", precision=("fp32",))
    assert ExportRecipe(variant="S-3").over(base) == ExportRecipe(
        "demo-denoise", None, "S-3", ("fp32",)
    )
    weights = ExportRecipe(checkpoint=tmp_path / "w.npz")
    assert ExportRecipe(model="demo-denoise").over(weights).checkpoint is None
    assert weights.over(base).checkpoint == tmp_path / "w.npz"


def test_paths_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    path = tmp_path / "recipe.toml"
    for text, expected in (("~/w.npz", Path("/home/me/w.npz")), ("w.npz", tmp_path / "w.npz")):
        path.write_text(f'checkpoint = "{text}"')
        assert read_export_recipe(path).checkpoint == expected


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("denoise", "'denoising-sidd'"),
        ("Enhance", "'enhancement-lol' or 'enhancement-fivek'"),
        ("gopro", "'deblurring-gopro'"),
        ("deblur-gopro", "'deblurring-gopro'"),
        ("demo-denois", "'demo-denoise'"),
    ],
)
def test_what_people_call_a_model(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_model_name(name)
    assert f"unknown model '{name}' (did you mean {meant}?); known: demo-denoise" in str(
        caught.value
    )


def test_an_unknown_model_means_nothing() -> None:
    with pytest.raises(UsageError, match="^unknown model '';"):
        check_model_name("")
    with pytest.raises(UsageError, match="^unknown model 'xyz';"):
        check_model_name("xyz")


def test_a_file_of_a_bundle_names_the_folder_to_give(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "engines").mkdir(parents=True)
    for name in ("manifest.json", "fp32.image.onnx", "engines/a.engine"):
        (bundle / name).touch()
        with pytest.raises(BundleError, match="is a file, but a bundle is a folder") as caught:
            Bundle.open(bundle / name)
        assert str(caught.value).endswith(f"| pass '{bundle}'")
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(BundleError, match="a bundle is a folder$"):
        Bundle.open(tmp_path / "photo.jpg")


def test_a_hash_goes_with_the_weights_beside_it(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'model = "deblurring-gopro"\nsha256 = "{"AB" * 32}"\n')
    pinned = read_export_recipe(recipe)
    assert pinned.sha256 == "ab" * 32
    assert ExportRecipe(variant="S-3").over(pinned).sha256 == "ab" * 32
    assert ExportRecipe(sha256="c" * 64).over(pinned).sha256 == "c" * 64
    for other in (ExportRecipe("denoising-sidd"), ExportRecipe(checkpoint=Path("x.npz"))):
        assert other.over(pinned).sha256 is None
    recipe.write_text('sha256 = "abc"')
    with pytest.raises(UsageError, match="sha256 must be 64 hexadecimal digits, not 'abc'"):
        read_export_recipe(recipe)
