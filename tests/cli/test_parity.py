"""`maxim-parity` as a user runs it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from maxim_deploy import load
from maxim_deploy.cli.parity import parity
from maxim_deploy.imaging.files import read_image, write_image

DATA = Path(__file__).parents[1] / "data"
PIPELINE = DATA / "pipeline_S-1_37x90.npz"
"""Odd sides; what the authors' code computes, and the bytes that it saves."""


def maxim_parity(*args: object) -> Result:
    return CliRunner().invoke(parity, [*map(str, args)], catch_exceptions=False)


def records(result: Result) -> list[dict]:
    return [json.loads(line, parse_constant=pytest.fail) for line in result.stdout.splitlines()]


def saved(folder: Path, name: str, pixels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / f"{name}.png", pixels)
    return folder


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder with the picture that the authors' code saved."""
    with np.load(PIPELINE) as stored:
        return saved(tmp_path / "published", PIPELINE.stem, stored["output_u8"])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        target = rng.integers(0, 256, (30, 41, 3), np.uint8)
        noisy = np.clip(target + rng.normal(0, 20, target.shape), 0, 255).astype(np.uint8)
        saved(tmp_path / "set/target", name, target)
        saved(tmp_path / "set/input", name, noisy)
        saved(tmp_path / "results", name, noisy // 2)
    return tmp_path / "set"


def test_the_line_of_a_bundle(demo_bundle: Path) -> None:
    result = maxim_parity(demo_bundle, "--size", "64x64", "--json")
    assert result.exit_code == 0, result.stdout
    found = records(result)
    arrows = {tuple(record[end].rpartition(":")[2] for end in "ab") for record in found}
    assert arrows == {
        ("deployment", "literal"), ("fp32", "deployment"), ("fp32.image", "fp32"),
        ("onnxruntime.fp32", "fp32"), ("fp16.simulated", "fp32"), ("fp16", "fp32"),
        ("fp16.image", "fp16"), ("openvino.fp32", "fp32"),
    }  # fmt: skip
    keys = {
        "a", "b", "image", "max_error_levels", "mean_error_levels", "p999_error_levels",
        "residual_error", "psnr", "ssim", "worst", "threshold", "passed", "environment", "stages",
    }  # fmt: skip
    assert all(record.keys() >= keys for record in found)
    assert found[0]["environment"]["libraries"] and found[0]["stages"]["a"]["sha256"]
    low = next(record for record in found if record["a"].endswith("fp16.simulated"))
    assert low["threshold"] == "fp16" and 0.01 < low["max_error_levels"] < 2


def test_a_threshold_that_is_exceeded_ends_in_1(demo_bundle: Path, tmp_path: Path) -> None:
    ends = (f"{demo_bundle}:fp16.twin", f"{demo_bundle}:literal", "--size", "64x64")
    maps = tmp_path / "maps"
    result = maxim_parity(*ends, "--threshold", "fp32", "--maps", maps)
    assert result.exit_code == 1
    assert "fp32: FAILED" in result.stdout and "allowed 0.00255" in result.stdout
    assert len(list(maps.iterdir())) == 2
    assert read_image(next(maps.iterdir())).rgb.max() == 255  # white from the threshold on
    assert maxim_parity(*ends).exit_code == 0


def test_locate(demo_bundle: Path, tmp_path: Path) -> None:
    ends = (f"{demo_bundle}:fp16", f"{demo_bundle}:fp32")
    result = maxim_parity(*ends, "--locate", "--maps", tmp_path, "--json")
    (record,) = records(result)
    assert result.exit_code == 0 and record["first_departure"] is None
    assert len(record["points"]) > 40 and record["environment"]  # two forms: by points
    assert [path.name.endswith(".growth.png") for path in tmp_path.iterdir()] == [True]
    result = maxim_parity(*ends, "--locate")
    assert "all agree" in result.stdout
    (nearest,) = re.findall(r"nearest to the limit: (\S+), ", result.stdout)
    assert nearest in {point["name"] for point in record["points"]}


def test_locate_names_published_blocks(demo_bundle: Path, tmp_path: Path) -> None:
    """Beside the graph's own names, whose weights are another model's here."""
    for name in ("fp32.tensor.onnx", "fp32.weights"):
        shutil.copyfile(demo_bundle / name, tmp_path / name)
    weights = np.fromfile(tmp_path / "fp32.weights", np.float32)
    weights[len(weights) // 2 :] *= 1.5
    (tmp_path / "fp32.weights").write_bytes(weights.tobytes())
    ends = (tmp_path / "fp32.tensor.onnx", f"{demo_bundle}:fp32", "--locate")
    result = maxim_parity(*ends)
    assert result.exit_code == 1
    first, block = re.findall(r"the first that departs: (\S+) \((\S+)\), error", result.stdout)[0]
    assert first.startswith("stages/0/") and block.startswith("stage_0_")
    (record,) = records(maxim_parity(*ends, "--json"))
    assert record["first_departure"] == first
    assert {p["published"] for p in record["points"] if p["name"] == first} == {block}


def test_nothing_to_locate_is_an_error(demo_bundle: Path, tmp_path: Path) -> None:
    """A bundle of float32 graphs alone, exported with --no-source."""
    bundle = tmp_path / "bare"
    shutil.copytree(demo_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    graphs = [graph for graph in manifest["graphs"] if graph["precision"] == "fp32"]
    (bundle / "manifest.json").write_text(
        json.dumps({**manifest, "source": None, "graphs": graphs})
    )
    result = maxim_parity(bundle, "--locate")
    assert result.exit_code == 2 and not result.stdout
    assert (
        "no two stages have inner tensors to compare" in result.stderr
        and "bare:fp32.image against" in result.stderr
    )


def test_stored_outputs_against_published_pictures(published: Path) -> None:
    """Half a level is added to what was truncated; truncated too, every byte is the same."""
    result = maxim_parity(PIPELINE, published, "--json")
    (record,) = records(result)
    assert result.exit_code == 0 and 0.45 < record["max_error_levels"] <= 0.5026
    result = maxim_parity(PIPELINE, published, "--rounding", "truncate", "--json")
    (record,) = records(result)
    assert result.exit_code == 0 and record["equal"] == 1 and record["threshold"] == "bytes"
    result = maxim_parity(PIPELINE, published, "--rounding", "nearest", "--json")
    (record,) = records(result)
    assert result.exit_code == 1 and 0.3 < record["equal"] < 0.7


def test_a_rounding_needs_a_folder(demo_bundle: Path) -> None:
    ends = (f"{demo_bundle}:fp32.image", f"{demo_bundle}:fp32")
    for stages in (ends, (demo_bundle,)):
        result = maxim_parity(*stages, "--size", "64x64", "--rounding", "nearest")
        assert result.exit_code == 2 and not result.stdout
        assert "says how the pictures of a folder were saved" in result.stderr


def test_a_stage_in_8_bits_against_folders(demo_bundle: Path, tmp_path: Path) -> None:
    """Half a level off where the folder is truncated, the same bytes where it is not."""
    image = np.random.default_rng(0).integers(0, 256, (64, 70, 3), np.uint8)
    saved(tmp_path / "in", "a", image)
    with load(demo_bundle, backend="onnxruntime", precision="fp32") as restorer:
        saved(tmp_path / "cut", "a", restorer(image, rounding="truncate"))
        saved(tmp_path / "near", "a", restorer(image))
        saved(tmp_path / "wrong", "a", restorer(image) // 4 * 4)

    def compared(folder: str, *args: str) -> Result:
        ends = (f"{demo_bundle}:fp32.image", tmp_path / folder)
        return maxim_parity(*ends, "--images", tmp_path / "in", "--json", *args)

    result = compared("cut")
    (record,) = records(result)
    assert result.exit_code == 0 and record["threshold"] == "fp32 in 8 bits"
    assert record["max_error_levels"] == pytest.approx(0.5, abs=1e-3)
    assert compared("wrong").exit_code == 1
    result = compared("near", "--rounding", "nearest")
    (record,) = records(result)
    assert result.exit_code == 0 and record["threshold"] == "bytes" and record["equal"] == 1
    result = compared("cut", "--rounding", "truncate")
    assert (
        result.exit_code == 2 and "a stage of the tensor form, such as BUNDLE:fp32" in result.stderr
    )


def test_the_ensemble_of_stored_outputs(tmp_path: Path) -> None:
    with np.load(PIPELINE) as stored:
        folder = saved(tmp_path / "eight", PIPELINE.stem, stored["ensemble_u8"])
    byte_for_byte = ("--rounding", "truncate", "--json")
    result = maxim_parity(PIPELINE, folder, "--ensemble", *byte_for_byte)
    assert result.exit_code == 0 and records(result)[0]["equal"] == 1
    assert maxim_parity(PIPELINE, folder, *byte_for_byte).exit_code == 1


def test_two_folders_and_a_picture_that_one_lacks(dataset: Path) -> None:
    (dataset / "target/b.png").unlink()
    result = maxim_parity(dataset / "input", dataset / "target", "--json")
    assert result.exit_code == 1
    by_name = {record["image"]: record for record in records(result)}
    assert by_name["b"]["faults"] == [f"folder '{dataset}/target' | has no picture 'b'"]
    assert by_name["a"]["residual_error"] is None and by_name["c"]["psnr"] < 25


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "name two stages to compare, or one bundle"),
        (("one.npz", "two.npz"), "there is no 'one.npz'"),
        (("a", "b", "--metric", "paper"), "--metric belongs to --dataset, which was not given"),
        (("a", "--dataset", "d", "--locate"), "--locate does not go with --dataset"),
        (("a", "--dataset", "d", "--threshold", "fp32"), "--threshold does not go with --dataset"),
        (("a", "--dataset", "d", "--maps", "m"), "--maps does not go with --dataset"),
        (("a", "b", "--locate", "--rounding", "nearest"), "--rounding does not go with --locate"),
        (("a", "b", "--locate", "--ensemble"), "--ensemble does not go with --locate"),
        (("a", "b", "--threshold", "fp31"), "unknown threshold 'fp31' (did you mean 'fp32'?)"),
        (("a", "b", "--size", "64"), "'64' is not a size; write HxW"),
    ],
)
def test_usage(args: tuple[str, ...], message: str) -> None:
    result = maxim_parity(*args)
    assert result.exit_code == 2 and message in result.stderr, result.stderr


def test_unknown_and_missing_stages_of_a_bundle(demo_bundle: Path) -> None:
    result = maxim_parity(f"{demo_bundle}:literl", f"{demo_bundle}:fp32")
    assert result.exit_code == 2 and "(did you mean 'literal'?); known: literal" in result.stderr
    result = maxim_parity(f"{demo_bundle}:bf16", f"{demo_bundle}:fp32")
    assert result.exit_code == 1 and "has no stage 'bf16'; it has: literal" in result.stderr


def test_a_data_set(dataset: Path) -> None:
    """A folder of results, which were saved truncated: half a level is added to the reference."""
    result = maxim_parity("--dataset", dataset, dataset.parent / "results", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [image["name"] for image in report["images"]] == ["a", "b", "c"]
    found = report["images"][1]
    mine, target = (
        read_image(folder / "b.png").rgb
        for folder in (dataset.parent / "results", dataset / "target")
    )
    theirs = peak_signal_noise_ratio(target.astype(float), mine + 0.5, data_range=255)
    assert found["psnr"] == pytest.approx(theirs, abs=1e-6)
    theirs = peak_signal_noise_ratio(target, mine, data_range=255)
    assert found["paper_psnr"] == pytest.approx(theirs, abs=1e-6)
    theirs = structural_similarity(
        target, mine, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=255, channel_axis=2,
    )  # fmt: skip
    assert found["ssim"] == pytest.approx(theirs, abs=1e-6)
    values = [image["psnr"] for image in report["images"]]
    assert report["mean"]["psnr"] == pytest.approx(np.mean(values))
    assert report["std"]["psnr"] == pytest.approx(np.std(values))
    assert report["published"] is None and report["failed"] == []


def test_pictures_that_were_rounded_to_nearest_are_measured_as_they_are(dataset: Path) -> None:
    def psnr(*args: str) -> list[float | None]:
        result = maxim_parity("--dataset", dataset, dataset / "target", "--json", *args)
        return [image["psnr"] for image in json.loads(result.stdout)["images"]]

    half_a_level = [pytest.approx(20 * np.log10(255 / 0.5))] * 3
    assert psnr() == psnr("--rounding", "truncate") == half_a_level
    assert psnr("--rounding", "nearest") == [None] * 3  # infinite


@pytest.mark.parametrize("maps", ["file", "file/maps"])
def test_maps_that_cannot_be_a_folder(dataset: Path, tmp_path: Path, maps: str) -> None:
    (tmp_path / "file").touch()
    result = maxim_parity(dataset / "input", dataset / "target", "--maps", tmp_path / maps)
    assert result.exit_code == 2
    assert (
        f"--maps '{tmp_path / maps}' | " in result.stderr and "expected a folder" in result.stderr
    )


def test_what_is_needed(demo_bundle: Path, dataset: Path) -> None:
    """A data set needs the runtime only; what needs more says the pip line."""
    script = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'safetensors', 'matplotlib', 'platformdirs'):\n"
        "    sys.modules[name] = None\n"
        "from maxim_deploy.cli.main import parity; parity()"
    )

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    result = run("--dataset", dataset, demo_bundle)
    assert result.returncode == 0 and "mean of 3" in result.stdout, result.stderr
    results = dataset.parent / "results"
    assert run(results, results).returncode == 0
    result = run(f"{demo_bundle}:literal", f"{demo_bundle}:fp32", "--images", dataset / "input")
    assert result.returncode == 2
    assert "torch is not installed; run: pip install 'maxim-deploy[export]'" in result.stderr


def test_metrics_and_channels(dataset: Path) -> None:
    results = dataset.parent / "results"

    def mean(*args: str) -> dict[str, float]:
        return json.loads(maxim_parity("--dataset", dataset, results, "--json", *args).stdout)[
            "mean"
        ]

    assert mean("--metric", "reference").keys() == {"psnr"}
    rgb, y = mean("--metric", "paper"), mean("--metric", "paper", "--channel", "y")
    assert rgb.keys() == y.keys() == {"paper_psnr", "ssim"}
    assert y["paper_psnr"] > rgb["paper_psnr"] + 1


def test_a_network_that_gives_8_bits_has_no_reference_metric(
    dataset: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    """By its graph's name, and by the runtime where a bundle has the image form alone."""
    bundle = tmp_path / "image"
    shutil.copytree(demo_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["graphs"] = [graph for graph in manifest["graphs"] if graph["io"] == "image"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for stage in (f"{bundle}:fp32.image", bundle):
        result = maxim_parity("--dataset", dataset, stage, "--json")
        report = json.loads(result.stdout)
        assert result.exit_code == 0 and "without the reference metric" in result.stderr
        assert report["mean"].keys() == {"paper_psnr", "ssim"}
        assert report["conventions"]["metrics"] == ["paper"]
        for metric in ("reference", "both"):
            result = maxim_parity("--dataset", dataset, stage, "--metric", metric)
            assert result.exit_code == 2 and not result.stdout
            assert "needs a float result" in result.stderr
        result = maxim_parity("--dataset", dataset, stage, "--metric", "paper")
        assert result.exit_code == 0 and "without" not in result.stderr
        result = maxim_parity("--dataset", dataset, stage, "--rounding", "truncate")
        assert result.exit_code == 2 and "rounds to nearest itself" in result.stderr


def test_a_bundle_on_a_data_set(demo_bundle: Path, dataset: Path) -> None:
    result = maxim_parity("--dataset", dataset, demo_bundle, "--json", "--metric", "reference")
    report = json.loads(result.stdout)
    assert result.exit_code == 0 and report["stage"]["backend"] == "onnxruntime"
    eight = maxim_parity(
        "--dataset", dataset, demo_bundle, "--json", "--metric", "reference", "--ensemble"
    )
    assert json.loads(eight.stdout)["mean"]["psnr"] != report["mean"]["psnr"]
    assert report["conventions"]["ensemble"] is False


def test_what_is_wrong_with_pairs_is_listed_and_does_not_stop_the_rest(dataset: Path) -> None:
    saved(dataset / "input", "x", np.zeros((20, 20, 3), np.uint8))
    saved(dataset / "target", "y", np.zeros((20, 20, 3), np.uint8))
    saved(dataset / "target", "b", np.zeros((30, 40, 3), np.uint8))
    (dataset / "input/a.png").write_bytes(b"not an image")
    result = maxim_parity("--dataset", dataset, dataset.parent / "results", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and [image["name"] for image in report["images"]] == ["c"]
    errors = {failure["name"]: failure["error"] for failure in report["failed"]}
    assert errors.keys() == {"x", "y", "a", "b"}
    assert "has no target" in errors["x"] and "has no input" in errors["y"]
    assert "30x41 and 30x40 pixels" in errors["b"] and "damaged" in errors["a"]
    assert result.stderr.count("failed: ") == 4


def test_a_name_with_an_apostrophe_is_told_whole(dataset: Path) -> None:
    saved(dataset / "input", "it's alone", np.zeros((20, 20, 3), np.uint8))
    result = maxim_parity("--dataset", dataset, dataset.parent / "results", "--json")
    (failure,) = json.loads(result.stdout)["failed"]
    assert failure["name"] == "it's alone" and "has no target" in failure["error"]


def test_no_memory_for_one_pair_does_not_stop_the_rest(dataset: Path, monkeypatch) -> None:
    from maxim_deploy.parity import dataset as measuring

    real = measuring.score

    def short_of_memory(stage, pair, conventions):
        if pair.name == "b":
            raise MemoryError
        return real(stage, pair, conventions)

    monkeypatch.setattr(measuring, "score", short_of_memory)
    result = maxim_parity("--dataset", dataset, dataset.parent / "results", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and [image["name"] for image in report["images"]] == ["a", "c"]
    assert report["failed"] == [{"name": "b", "error": "pair 'b' | not enough memory"}]


def test_a_record_that_cannot_be_written_costs_no_score(
    dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    def full(_: Path, lines: list[object]) -> None:
        if lines:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    state = tmp_path / "state"
    monkeypatch.setattr("maxim_deploy.cli._scores.append_lines", full)
    result = maxim_parity("--dataset", dataset, dataset.parent / "results", "--resume", state)
    assert result.exit_code == 0 and "mean of 3" in result.stdout
    assert result.stderr.count(f"record '{state}' | No space left on device") == 1


def test_a_data_set_goes_on_where_it_stopped(dataset: Path, tmp_path: Path, monkeypatch) -> None:
    from maxim_deploy.parity import dataset as measuring

    results, state = dataset.parent / "results", tmp_path / "state.jsonl"
    measured: list[str] = []
    real = measuring.score

    def counted(stage, pair, conventions):
        measured.append(pair.name)
        return real(stage, pair, conventions)

    monkeypatch.setattr(measuring, "score", counted)

    def run(*args: str) -> dict:
        measured.clear()
        return json.loads(
            maxim_parity("--dataset", dataset, results, "--resume", state, "--json", *args).stdout
        )

    first = run()
    assert measured == ["a", "b", "c"]
    assert run()["mean"] == first["mean"] and measured == []
    lines = state.read_bytes().rstrip()
    state.write_bytes(lines[: len(lines) - 20])  # killed while it wrote the last one
    assert run()["mean"] == first["mean"] and measured == ["c"]
    saved(dataset / "target", "b", np.zeros((30, 41, 3), np.uint8))
    assert run()["mean"] != first["mean"] and measured == ["b"]
    before = run("--channel", "y")
    assert measured == ["a", "b", "c"]
    saved(results, "c", np.zeros((30, 41, 3), np.uint8))
    assert run("--channel", "y")["mean"] != before["mean"] and measured == ["c"]


def test_other_weights_beside_a_graph_are_measured_anew(
    dataset: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    graph, weights = (tmp_path / name for name in ("fp32.tensor.onnx", "fp32.weights"))
    for path in (graph, weights):
        shutil.copyfile(demo_bundle / path.name, path)

    def mean() -> dict[str, float]:
        result = maxim_parity("--dataset", dataset, graph, "--resume", tmp_path / "state", "--json")
        return json.loads(result.stdout)["mean"]

    first = mean()
    assert mean() == first
    weights.write_bytes((np.fromfile(weights, np.float32) / 2).tobytes())
    assert mean() != first


def test_the_published_figure_stands_beside(
    dataset: Path, demo_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "derain"
    shutil.copytree(demo_bundle, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["model"] |= {"name": "deraining-raindrop", "task": "deraining"}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = maxim_parity("--dataset", dataset, bundle, "--json")
    report = json.loads(result.stdout)
    assert report["published"] == {"dataset": "Raindrop", "psnr": 31.87, "ssim": 0.935}
    assert report["conventions"]["channel"] == "y"
    result = maxim_parity("--dataset", dataset, bundle)
    words = result.stdout.splitlines()[-1].split(maxsplit=3)
    assert words == ["published", "for", "Raindrop", "PSNR 31.87 dB, SSIM 0.935"]
