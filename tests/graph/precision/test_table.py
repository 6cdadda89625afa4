"""The decision table: what its patterns stand for, and its two forms on paper."""

from __future__ import annotations

import json

import pytest

from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.report import decided_nodes, table_text
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.spec.precision import LOW


def table_of(*patterns: str, low: str = "float16") -> PrecisionTable:
    return PrecisionTable(low, tuple(Decision(pattern, "float32", "test") for pattern in patterns))


def names(table: PrecisionTable, model) -> dict[str, str]:
    return {node.name: d.pattern for node, d in table.resolve(model.graph).items()}  # type: ignore[misc]


def test_roles_in_a_small_graph(small) -> None:
    assert names(default_table("fp16"), small) == {
        "pick": "image",
        "add": "output-sum",
        "attention_mean": "spatial-mean",
        "body_norm": "layer-norm",
    }


def test_roles_in_the_image_form(make_graph) -> None:
    model = make_graph(
        """
        [flip] nhwc = Transpose <perm = [0, 2, 3, 1]> (image)
        [scale] unit = Mul (nhwc, step)
        [back] nchw = Transpose <perm = [0, 3, 1, 2]> (unit)
        [half] small = Resize <mode = "nearest"> (nchw, "", scales)
        [conv] x = Conv <pads = [1, 1, 1, 1]> (nchw, kernel)
        [more] y = Mul (nchw, x)
        [sum] z = Add (y, nchw)
        [crop] c = Slice (z, zero, end, axes)
        [clip] limited = Clip (c, low, high)
        [steps] scaled = Mul (limited, step)
        [round] restored = Round (scaled)
        """,
        step=1 / 255,
        kernel=[[[[0.1] * 3] * 3] * 3] * 3,
        scales=[1.0, 1.0, 0.5, 0.5],
        zero=[0, 0],
        end=[64, 64],
        axes=[2, 3],
        low=0.0,
        high=1.0,
    )
    found = names(table_of("image", "output-sum"), model)
    assert [k for k, v in found.items() if v == "image"] == ["flip", "scale", "back", "half"]
    assert [k for k, v in found.items() if v == "output-sum"] == [
        "round", "steps", "clip", "crop", "sum",
    ]  # fmt: skip


def test_roles_in_the_demo(demo) -> None:
    decided = decided_nodes(default_table("fp16"), demo, {})
    counts = {decision.pattern: len(nodes) for decision, nodes in decided.items()}
    means = next(nodes for decision, nodes in decided.items() if decision.pattern == "spatial-mean")
    assert counts["output-sum"] >= 1 and counts["image"] >= 1 and counts["layer-norm"] >= 20
    # one channel attention per encoder and decoder level and per bottleneck block
    assert len({name.rpartition("/")[0] for name in means}) == 7
    assert all("/ReduceMean_" in name for name in means)


def test_a_later_decision_overrules(small) -> None:
    table = PrecisionTable(
        "float16",
        (Decision("body_*", "float32", "all"), Decision("body_norm", "float16", "but this")),
    )
    islands = {node.name for node in table.islands(small.graph)}
    assert islands == {"body_conv", "body_scaled", "body_doubled"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("spatial-means", r"matches no float node .*did you mean 'spatial-mean'"),
        ("body_cnov", r"did you mean 'body_conv'"),
        ("tail/*", r"roles are: image, output-sum, spatial-mean, layer-norm"),
    ],
)
def test_a_pattern_without_a_node(small, pattern: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        table_of(pattern).resolve(small.graph)


def test_a_role_that_the_graph_does_not_have(make_graph) -> None:
    model = make_graph("[a] restored = Relu (image)")
    with pytest.raises(ExportError, match="'output-sum' matches no float node"):
        table_of("output-sum").resolve(model.graph)


@pytest.mark.parametrize("precision", LOW)
def test_json_round_trip(small, precision: str) -> None:
    table = default_table(precision)
    text = table.to_json(decided_nodes(table, small, {"n": 3.5}))
    assert PrecisionTable.from_json(text) == table
    mean = json.loads(text)["decisions"][2]
    assert mean["nodes"] == {"attention_mean": 3.5} and mean["type"] == "float32"
    assert mean["value"] == pytest.approx(1, abs=1e-3) and "running sum" in mean["measure"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 1', '"format": 2', "format 2; this maxim-deploy reads format 1"),
        ('"pattern"', '"patern"', r"unknown key 'patern' \(did you mean 'pattern'\?\)"),
        ('"float32"', '"flaot32"', r"'flaot32' \(did you mean 'float32'\?\)"),
        ('"type": "float16"', '"type": "fp16"', r"unknown low-precision type 'fp16'.*float16, bf"),
        ('"reason"', '"measure"', "not a precision table"),
        ("{", "", "not a precision table"),
    ],
)
def test_a_damaged_table(old: str, new: str, message: str) -> None:
    text = default_table("fp16").to_json()
    with pytest.raises(ExportError, match=message):
        PrecisionTable.from_json(text.replace(old, new))


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        (["x"], r"decisions\[0\] must be of type dict, not 'x'"),
        (None, "decisions must be of type list"),
        ([{"pattern": 5, "type": "float32", "reason": ""}], "pattern must be of type str, not 5"),
        ([{"pattern": "*", "type": "float32", "reason": None}], "reason must be of type str"),
        ([{"pattern": "*", "type": [], "reason": ""}], "type must be of type str"),
        ([{"pattern": "*", "type": "float32", "reason": "", "value": "1"}], "value must be of"),
    ],
)
def test_a_table_of_wrong_types(decisions: object, message: str) -> None:
    text = json.dumps({"format": 1, "type": "float16", "decisions": decisions})
    with pytest.raises(ExportError, match=f"not a precision table: .*{message}"):
        PrecisionTable.from_json(text)


def test_an_unknown_precision() -> None:
    with pytest.raises(UsageError, match=r"'fp61' \(did you mean 'fp16'\?\).*fp16, bf16"):
        default_table("fp61")


def test_text(small) -> None:
    table = default_table("fp16")
    lines = table_text(table, decided_nodes(table, small, {"n": 3.5, "m": 0.25})).splitlines()
    assert lines[0].startswith("float16, but for")
    (mean,) = (line for line in lines if line.startswith("attention_mean"))
    assert mean.split() == ["attention_mean", "float32", "spatial-mean", "3.5"]
    assert "3.5" not in (bare := table_text(table, decided_nodes(table, small, {})))
    assert "attention_mean  float32  spatial-mean\n" in bare
    column = lines[2].index("reason")
    assert all(line[column - 2 : column] == "  " for line in lines[2:7])
    assert not any(line.startswith("body_norm") for line in lines)  # no island
