"""`maxim-bench --tiles`, `--overhead` and `--rewrites`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from maxim_deploy.benchmarks import rewrites
from maxim_deploy.cli.bench import bench
from maxim_deploy.export import FORMS
from maxim_deploy.export.deployment import REWRITES

PHOTO = Path(__file__).parents[2] / "maxim_deploy" / "assets" / "chelsea.png"


def maxim_bench(*args: object) -> Result:
    return CliRunner().invoke(bench, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """One of two tiles of 128, and one that is a single tile."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    with Image.open(PHOTO) as photo:
        photo.crop((100, 60, 356, 188)).save(paths[0])
        photo.crop((0, 0, 100, 90)).save(paths[1])
    return paths


def test_the_table_of_tiles(demo_bundle: Path, photos: list[Path]) -> None:
    options = ["--tile", "128", "--overlap", "0", "--overlap", "64", "--overlap", "128"]
    result = maxim_bench("--tiles", demo_bundle, *photos, *options)
    assert result.exit_code == 0, result.stderr
    assert "tiles of 128 with an overlap of 64" in result.stderr
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in result.stdout.splitlines()]
    assert [row[:2] for row in rows[2:]] == [["128", "0"], ["128", "64"]]  # 128 is too much
    quality = [float(row[2].split(", ")[0]) for row in rows[2:]]
    assert 35 < quality[0] < quality[1] < 60
    for row, shows in zip(rows[2:], (True, False), strict=True):
        border, around = (float(number) for number in row[4].split(", ")[0].split(" / "))
        assert (border > around + 1) == shows
        assert [cell.split(", ")[1] for cell in row[2:]] == ["-"] * 4  # it is one tile


def test_tiles_as_json(demo_bundle: Path, photos: list[Path]) -> None:
    options = ["--tile", "128", "--overlap", "64", "--sigma", "0", "--json"]
    (line,) = maxim_bench("--tiles", demo_bundle, *photos, *options).stdout.splitlines()
    found = json.loads(line)["tiles"]
    assert (found["photo"], found["sigma"]) == (str(photos[0]), 0)
    assert (found["tile"], found["overlap"]) == (128, 64)
    assert found["psnr_to_whole"] > 35 and found["step"].keys() >= {"mean", "largest"}


def test_overhead(demo_bundle: Path) -> None:
    options = ["--size", "64x64", "--rounds", "5", "--soak", "10"]
    result = maxim_bench("--overhead", demo_bundle, *options)
    assert result.exit_code == 0, result.stderr
    assert "5 rounds of 64x64" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("- Time of a call over the bare backend, 64x64 uint8: ")
    assert lines[1].startswith("- Time per image with 4 threads over one: ")
    assert lines[2].startswith("- Resident over 10 calls of mixed sizes: ")


def test_overhead_as_json(demo_bundle: Path) -> None:
    options = ["--size", "64x64", "--rounds", "5", "--soak", "0", "--json"]
    (line,) = maxim_bench(demo_bundle, "--overhead", *options).stdout.splitlines()
    found = json.loads(line)["overhead"]
    assert (found["size"], found["threads"], found["soak"]) == ([64, 64], 4, None)
    assert found["call"]["rounds"] == 5 and found["in_threads"]["median"] > 0


@pytest.mark.slow
def test_rewrites(demo_bundle: Path, kept_traces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms, in the order of the table; the GPU's moves less in fewer layers."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    forms = {name: FORMS[name] for name in ("cpu", "gpu")}
    monkeypatch.setattr(rewrites, "choices", lambda: forms)
    monkeypatch.setattr(rewrites, "CPU_SIZE", (64, 64))
    result = maxim_bench("--rewrites", demo_bundle, "--size", "256x256", "--json")
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line)["rewrites"] for line in result.stdout.splitlines()]
    assert [cost["name"] for cost in found] == ["cpu", "gpu"]
    cpu, gpu = (cost["traffic"] for cost in found)
    assert gpu["bytes_per_pixel"] < 0.9 * cpu["bytes_per_pixel"]
    assert gpu["layers"] < 0.9 * cpu["layers"] and gpu["activation_bytes"] > 0
    # Sums over positions alone are float32 at full size; they are no tensor of it.
    assert gpu["float32_share"] < 0.01


def test_every_rewrite_that_saves_traffic_is_left_out_once() -> None:
    cpu, gpu = FORMS["cpu"], FORMS["gpu"]
    changed = {name for name in REWRITES if getattr(cpu, name) != getattr(gpu, name)}
    names = [name.removeprefix("gpu without ") for name in rewrites.choices()]
    assert names[:3] == ["cpu", "gpu", "gpu-range"]
    # Which "gpu-range" is.
    assert {*names[3:], "full_size_halves"} == {"partitioned_norms", *changed}
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--tiles", "name a BUNDLE and photographs: maxim-bench --tiles BUNDLE PHOTO..."),
        ("--tiles b", "name a BUNDLE and photographs"),
        ("--tiles b p.png --size 64x64", "--size does not go with --tiles"),
        ("--tiles b p.png --soak 5", "--soak does not go with --tiles"),
        ("--tiles b p.png --report r.html", "--report does not go with --tiles"),
        ("--tiles --render b", "--render does not go with --tiles"),
        ("--tiles --overhead b", "--overhead does not go with --tiles"),
        ("--tiles b p.png --sigma -1", "Invalid value for '--sigma'"),
        ("--overhead", "name one BUNDLE: maxim-bench --overhead BUNDLE"),
        ("--overhead b c", "name one BUNDLE"),
        ("--overhead b --tile 128", "--tile does not go with --overhead"),
        ("--overhead b --backend onnxruntime", "--backend does not go with --overhead"),
        ("--overhead b --size 64x64 --size 8x8", "--overhead takes one --size"),
        ("--overhead b --size 64", "sizes must be HEIGHTxWIDTH: '64'"),
        ("--overhead b --rounds 0", "rounds must be int and at least 1: 0"),
        ("--overhead b --threads 0", "threads must be int and at least 1: 0"),
        ("--rewrites", "name one BUNDLE: maxim-bench --rewrites BUNDLE"),
        ("--rewrites b --rounds 3", "--rounds does not go with --rewrites"),
        ("--rewrites b --size 100x64", "--rewrites takes one --size, of multiples of 64"),
        ("b --tile 128", "--tile belongs to --tiles, which was not given"),
        ("b --soak 5", "--soak belongs to --overhead, which was not given"),
    ],
)
def test_misuse_has_a_reason_and_exit_code_2(arguments: str, message: str) -> None:
    result = maxim_bench(*arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("study", ["--tiles", "--overhead", "--rewrites"])
def test_no_bundle(study: str, tmp_path: Path) -> None:
    photos = [PHOTO] if study == "--tiles" else []
    result = maxim_bench(study, tmp_path, *photos)
    assert result.exit_code == 1 and "is not a bundle" in result.stderr
    assert result.stdout == ""
