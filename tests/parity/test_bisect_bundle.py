"""`maxim-parity --bisect`: from a bundle to a table that an export takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import CliRunner, Result
from parity.networks import write_bundle

from maxim_deploy.checkpoints import demo_weights
from maxim_deploy.cli.parity import parity
from maxim_deploy.graph.precision.lowering import Lowering, read_precision_table
from maxim_deploy.graph.precision.magnitudes import magnitudes
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.imaging.files import read_image, write_image
from maxim_deploy.parity.bisect_bundle import bisect_bundle, kept_islands
from maxim_deploy.parity.networks import traced_core
from maxim_deploy.parity.trials import Judge
from maxim_deploy.spec.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture with 8 bits per channel, one with 16."""
    folder = tmp_path_factory.mktemp("photos")
    photo = read_image(demo_weights().with_name("chelsea.png")).rgb
    write_image(folder / "cat.png", photo)
    write_image(folder / "deep.png", photo[::-1].astype(np.uint16) * 257)
    (folder / "notes.txt").touch()
    return folder


def bisect(bundle: Path, photos: Path, *more: object) -> Result:
    cache = bundle.parent / "cache"
    arguments = ["--bisect", bundle, "--images", photos, "--size", "64x64", "--cache", cache]
    if "--budget" not in more:
        more = (*more, "--budget", "62dB")
    return CliRunner().invoke(parity, list(map(str, [*arguments, *more])), catch_exceptions=False)


def test_table_and_summary(bundle: Path, photos: Path, tmp_path: Path) -> None:
    ended = bisect(bundle, photos, "-o", tmp_path / "table.json")
    assert ended.exit_code == 0
    table = read_precision_table(tmp_path / "table.json")
    types = [(decision.pattern, decision.type) for decision in table.decisions]
    assert types == [("net/a/scale", "float16"), ("net/b/far/*", "float32")]
    nodes = json.loads((tmp_path / "table.json").read_text())["decisions"][1]["nodes"]
    assert nodes.keys() == {"net/b/far/up", "net/b/far/turn", "net/b/far/down"}
    assert all(300 < magnitude < 301 for magnitude in nodes.values())
    out = ended.stdout
    assert out.startswith(
        "fp16 within 62 dB of float32 on 2 pictures of 64x64, simulated precision"
    )
    assert out.endswith(f"{tmp_path / 'table.json'}\n")
    assert "3 nodes: net/b/far/*" in out and "dB, deep" in out
    assert ended.stderr.startswith("trial 1: ") and "net/b/far alone" in ended.stderr

    again = bisect(bundle, photos)
    assert "\n0 graphs run, " in again.stdout and again.exit_code == 0
    assert again.stderr.count("(from the cache)") == again.stderr.count("trial ") > 5
    assert "float16, but for these decisions" in again.stdout
    assert "keep the budget of 62 dB" in again.stdout


def test_json(bundle: Path, photos: Path) -> None:
    record = json.loads(bisect(bundle, photos, "--json").stdout)
    assert record["precision"] == "fp16" and record["budget"] == 62 and record["size"] == [64, 64]
    assert record["before"]["psnr"].keys() == {"cat", "deep"}
    assert min(record["before"]["psnr"].values()) < 62 <= min(record["after"]["psnr"].values())
    assert record["before"]["float32_nodes"] == 1 and record["after"]["float32_nodes"] == 3
    assert record["nodes"] == 11 and record["kept"] == 0
    assert record["trials"] > 3 and record["trials_from_cache"] == 0
    # three nodes read and write three channels each, at two bytes more
    (cost,) = record["decisions"]
    assert cost == {"pattern": "net/b/far/*", "nodes": 3, "bytes_per_pixel": 3 * 2 * 3 * 2}
    table = PrecisionTable.from_json(json.dumps(record["table"]))
    assert [decision.type for decision in table.decisions] == ["float16", "float32"]


def test_a_budget_below_the_gate_is_pointed_out(bundle: Path, photos: Path) -> None:
    ended = bisect(bundle, photos, "--budget", "40 dB")
    assert ended.exit_code == 0
    assert "an export in fp16 needs 60 dB on its own photograph" in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "inf"], "--budget must be an amount such as 60dB"),
        (["--budget", "60%"], "--budget must be an amount such as 60dB"),
        (["--budget", "0"], "--budget must be more than zero"),
        (["--precision", "fp32"], "--bisect searches in fp16 or bf16, not in fp32"),
        (["--size", "64x100"], "pictures of 64x100 | expected multiples of 64"),
        (["-o", "none/table.json"], "there is no folder 'none'"),
        (["another"], "--bisect takes one bundle"),
        (["--images", "none"], "folder 'none' | there is none"),
        (["--threshold", "fp16"], "--threshold does not go with --bisect"),
        (["--locate"], "--locate does not go with --bisect"),
    ],
)
def test_wrong_options(bundle: Path, photos: Path, options: list[str], message: str) -> None:
    ended = bisect(bundle, photos, *options)
    assert ended.exit_code == 2 and message in ended.stderr and not ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bisect", "b"], "--bisect needs the pictures that matter to you: pass --images DIR"),
        (["b", "--budget", "60"], "--budget belongs to --bisect, which was not given"),
        (["b", "-o", "t.json"], "--output belongs to --bisect, which was not given"),
    ],
)
def test_options_that_belong_together(arguments: list[str], message: str) -> None:
    ended = CliRunner().invoke(parity, arguments)
    assert ended.exit_code == 2 and message in ended.stderr


def test_bundles_that_cannot_serve(photos: Path, tmp_path: Path) -> None:
    literal = write_bundle(tmp_path / "literal", literal=True)
    image = write_bundle(tmp_path / "image", io="image")
    changed = write_bundle(tmp_path / "changed")
    (changed / "fp32.tensor.onnx").write_bytes(b"other")
    for bundle, code, message in (
        (literal, 2, "is of the literal form"),
        (image, 1, "has no fp32 graph of the 'tensor' form; it has: fp32 image"),
        (changed, 1, "has changed since the export"),
        (tmp_path, 1, "is not a bundle"),
    ):
        ended = bisect(bundle, photos)
        assert ended.exit_code == code and message in ended.stderr


def test_a_damaged_table_of_a_bundle(bundle: Path, photos: Path) -> None:
    (bundle / "fp16.table.json").write_text("{}")
    ended = bisect(bundle, photos)
    assert ended.exit_code == 1 and "has changed since the export" in ended.stderr


def test_what_a_cpu_cannot_see_is_kept(demo_bundle: Path) -> None:
    core = ir.load(demo_bundle / "fp32.tensor.onnx")
    table = PrecisionTable("float16", (Decision("*", "float32", "all"),))
    seen = magnitudes(core, [np.full((1, 3, 64, 64), 0.5, np.float32)])
    seen["image"] = 9000.0  # too large for float16, by a factor of 8
    blind, seeing = (
        kept_islands(table, core, seen, Judge("j", lambda _: np.abs, sees_sums=sees))
        for sees in (False, True)
    )
    assert {name.rpartition("/")[2][:10] for name in blind - seeing} == {"ReduceMean"}
    assert len(blind - seeing) == 14 and "Slice_0" in seeing


def test_an_export_takes_the_table(bundle: Path, photos: Path, tmp_path: Path) -> None:
    """What `maxim-export --precision-table` does with it: types are verified, the gate passes."""
    opened = Bundle.open(bundle)
    cat = {"cat": read_image(photos / "cat.png").rgb}
    report = bisect_bundle(opened, "fp16", cat, 62, size=(64, 64), cache=tmp_path / "cache")
    (tmp_path / "table.json").write_text(report.table.to_json(report.decided))
    table = read_precision_table(tmp_path / "table.json")
    core = ir.load(opened.checked_graph(opened.graph("fp32", "tensor")))
    lowered = Lowering(core, tmp_path, table, verify=True).lower("fp16")
    assert {record["picture"] for record in lowered.parity} > {"chelsea"}
    written = json.loads((tmp_path / "fp16.table.json").read_text())["decisions"]
    islands = {n for d in written if d["type"] == "float32" for n in d["nodes"]}
    assert len(islands) == report.after.float32_nodes > 0


@pytest.mark.extended
def test_the_demos_table_is_better(demo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    cat = {"cat": read_image(photos / "cat.png").rgb}
    bundle = Bundle.open(demo_bundle)
    report = bisect_bundle(bundle, "fp16", cat, 69.5, size=(64, 64), cache=tmp_path)
    assert report.before.psnr["cat"] < 69.5 <= report.after.psnr["cat"]
    (tmp_path / "table.json").write_text(report.table.to_json(report.decided))
    table = read_precision_table(tmp_path / "table.json")
    core, _ = traced_core(bundle, bundle.graph("fp16", "tensor").form)
    lowered = Lowering(core, tmp_path, table, verify=True).lower("fp16")
    recorded = {record["picture"]: record["psnr"] for record in lowered.parity}
    default = next(
        record["psnr"]
        for record in bundle.graph("fp16", "tensor").parity  # type: ignore[attr-defined]
        if record["picture"] == "chelsea"
    )
    assert recorded["chelsea"] > default
    written = json.loads((tmp_path / "fp16.table.json").read_text())["decisions"]
    islands = {n for d in written if d["type"] == "float32" for n in d["nodes"]}
    assert len(islands) == report.after.float32_nodes
