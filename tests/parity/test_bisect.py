"""The search for float32 islands, on networks whose answer is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from parity.networks import NETWORK, OFFSET, graph_of, hand_made

from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.table import Decision, PrecisionTable
from maxim_deploy.graph.precision.verify import verify_types
from maxim_deploy.parity import trials as trials_module
from maxim_deploy.parity.bisect import Found, Search
from maxim_deploy.parity.bisect_table import decided_groups, float_tree, table_from
from maxim_deploy.parity.blocks import block_tree, cover, parts
from maxim_deploy.parity.traffic import Traffic
from maxim_deploy.parity.trials import Judge, Trials, simulated_judge


@pytest.fixture
def network() -> ir.Model:
    return hand_made()


@pytest.fixture
def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.random((1, 3, 16, 16), np.float32) / 2 for name in ("one", "two")}


def table_of(*patterns: str, low: str = "float16") -> PrecisionTable:
    return PrecisionTable(low, tuple(Decision(p, "float32", "test") for p in patterns))


def search(
    model: ir.Model, start: PrecisionTable, pictures, budget: float, kept=(), **options
) -> tuple[Found, PrecisionTable, Trials]:
    options = {"judge": simulated_judge(), **options}
    trials = Trials(model, float_tree(model), start.low, pictures, **options)
    groups = decided_groups(start, model)
    traffic = Traffic(model, pictures["one"].shape)
    found = Search(trials, traffic, budget, frozenset(kept)).run(
        frozenset().union(*groups.values()), list(groups.values())
    )
    table = table_from(found, start, model, budget)
    verify_types(low_precision(model, table), table)
    return found, table, trials


def float32_patterns(table: PrecisionTable) -> list[str]:
    return [decision.pattern for decision in table.decisions if decision.type == "float32"]


@pytest.mark.parametrize(
    ("start", "budget"),
    [
        (table_of(), 65),
        # bfloat16 rounds the sum as well: that is float32 already
        (table_of("net/sum", low="bfloat16"), 55),
    ],
)
def test_the_bad_block_is_named(network, pictures, start: PrecisionTable, budget: float) -> None:
    found, table, _ = search(network, start, pictures, budget)
    assert found.before.worst < budget - 3 and found.after.worst >= budget
    (decision,) = table.decisions[len(start.decisions) :]
    assert (decision.pattern, decision.type) == ("net/b/far/*", "float32")
    assert decision.measure == f"dB from float32 with this block alone in {start.low}"
    assert decision.value == pytest.approx(found.before.worst, abs=1.5)
    assert f"the budget of {budget} dB" in decision.reason


def test_two_bad_blocks_are_both_named(pictures) -> None:
    body = NETWORK.replace("Add (c1, image)", "Add (d2, image)").replace(
        "[net__sum]",
        "[net__d__up] d0 = Add (c1, offset)\n[net__d__relu] d1 = Relu (d0)\n"
        "[net__d__down] d2 = Sub (d1, offset)\n[net__sum]",
    )
    model = graph_of(body, third=1 / 3, offset=OFFSET)
    found, table, _ = search(model, table_of(), pictures, 65)
    assert set(float32_patterns(table)) == {"net/b/far/*", "net/d/*"}
    # `d` is not scaled down behind its coarse values: it loses more, and comes first
    assert float32_patterns(table)[0] == "net/d/*"
    assert found.after.worst >= 65


def test_what_is_cheap_but_not_needed_stays_low(pictures) -> None:
    """Three numbers far from zero lose the most per byte, and less than the budget allows."""
    body = NETWORK.replace(
        "[net__sum] restored = Add (c1, image)",
        "[net__e__mean] e0 = GlobalAveragePool (image)\n[net__e__up] e1 = Add (e0, offset)\n"
        "[net__e__down] e2 = Sub (e1, offset)\n[net__e__scale] e3 = Mul (e2, tiny)\n"
        "[net__join] c2 = Add (c1, e3)\n[net__sum] restored = Add (c2, image)",
    )
    model = graph_of(body, third=1 / 3, offset=OFFSET, tiny=0.05)
    tried = []
    found, table, _ = search(
        model, table_of(), pictures, 58, progress=lambda what, psnr, _: tried.append((what, psnr))
    )
    alone = dict(tried)["net/e alone"]
    assert 58 < alone < 70 and found.before.worst < 58 <= found.after.worst
    assert float32_patterns(table) == ["net/b/far/*"]


@pytest.mark.parametrize("offset", [1e5, 6e4])
def test_overflow(pictures, offset: float) -> None:
    """A weight too large for float16, or a sum that is: such a trial is no reason to stop."""
    body = NETWORK.replace("Add (a2, offset)", "Mul (a2, offset)").replace(
        "Sub (b1, offset)", "Div (b1, offset)"
    )
    body = body.replace("Sigmoid (c0)", "Sub (c0, b4)")  # of two infinities: not a number
    pictures = {name: picture * 8 for name, picture in pictures.items()}
    model = graph_of(body, third=1 / 3, offset=offset)
    found, table, _ = search(model, table_of(), pictures, 60)
    assert found.before.worst == -math.inf and found.after.worst >= 60
    assert float32_patterns(table) == ["net/b/far/*"]
    (decision,) = table.decisions
    assert decision.value is None and decision.measure.startswith("not finite with this block")
    assert PrecisionTable.from_json(table.to_json()) == table


def test_a_needless_island_is_given_back(network, pictures) -> None:
    start = table_of("net/c/*", "net/b/far/*", "output-sum")
    found, table, _ = search(network, start, pictures, 65)
    assert [decision.pattern for decision in table.decisions] == [
        decision.pattern for decision in start.decisions
    ]
    types = {decision.pattern: decision.type for decision in table.decisions}
    assert types["net/c/*"] == "float16" and types["net/b/far/*"] == "float32"
    (needless,) = (d for d in table.decisions if d.pattern == "net/c/*")
    assert "keeps the budget of 65 dB" in needless.reason and needless.value >= 65
    assert found.after.worst >= 65 and not found.left


def test_only_the_needed_part_of_an_island_stays(network, pictures) -> None:
    """`*` cannot go back whole; most of it can."""
    _, table, _ = search(network, table_of("net/b/*"), pictures, 65)
    islands = {node.name for node in table.islands(network.graph)}
    assert islands == {"net/b/far/up", "net/b/far/turn", "net/b/far/down"}
    assert {d.type for d in table.decisions[1:]} == {"float16"}


@pytest.mark.parametrize("seed", range(8))
def test_any_table_ends_in_one_that_keeps_the_budget(network, pictures, seed: int) -> None:
    """Overlapping decisions of both types, in any order; `search` checks the types as well."""
    rng = np.random.default_rng(seed)
    patterns = ["*", "net/b/*", "net/*/scale", "output-sum", "net/b/far/up", "net/c/*", "*relu"]
    start = PrecisionTable(
        "float16",
        tuple(
            Decision(pattern, str(rng.choice(["float32", "float16"], p=[0.7, 0.3])), "test")
            for pattern in rng.permutation(patterns)[:4]
        ),
    )
    budget = float(rng.choice([50, 60, 70, 80]))
    found, table, _ = search(network, start, pictures, budget)
    assert found.after.worst >= budget
    assert {node.name for node in table.islands(network.graph)} == found.islands
    again, same, _ = search(network, table, pictures, budget)
    assert not again.left and len(again.islands) <= len(found.islands)
    assert PrecisionTable.from_json(same.to_json()) == same


def test_kept_islands_stay(network, pictures) -> None:
    scale = "net/a/scale"
    found, table, _ = search(network, table_of("net/a/*"), pictures, 30, kept=[scale])
    assert found.islands == {scale}
    assert {node.name for node in table.islands(network.graph)} == {scale}


def test_a_budget_that_cannot_be_kept(network, pictures) -> None:
    """A judge who sees noise whatever the precision."""
    rng = np.random.default_rng(0)

    def noisy(model: ir.Model):
        run = simulated_judge().open(model)
        return lambda picture: run(picture) + rng.normal(0, 1e-3, picture.shape).astype(np.float32)

    judge = Judge("noisy", noisy, sees_sums=True)
    with pytest.raises(UsageError, match=r"90 dB cannot be kept.*float32 is [56]\d\.\d dB"):
        search(network, table_of(), pictures, 90, judge=judge)


def test_no_picture_and_values_that_are_not_finite(network, pictures) -> None:
    with pytest.raises(UsageError, match="no picture"):
        Trials(network, float_tree(network), "float16", {}, judge=simulated_judge())
    bad = {"one": np.full((1, 3, 16, 16), np.nan, np.float32)}
    with pytest.raises(ExportError, match="picture 'one': the float32 graph gives values not fin"):
        Trials(network, float_tree(network), "float16", bad, judge=simulated_judge())


class Stopped(Exception):  # noqa: N818
    pass


def counting(limit: int | None = None) -> tuple[Judge, list[ir.Model]]:
    """The judge of simulated precision, which counts and can be interrupted."""
    opened: list[ir.Model] = []

    def open_counted(model: ir.Model):
        if len(opened) == limit:
            raise Stopped
        opened.append(model)
        return simulated_judge().open(model)

    return Judge("counted", open_counted, sees_sums=False), opened


def test_an_interrupted_search_goes_on(network, pictures, tmp_path: Path) -> None:
    judge, all_at_once = counting()
    _, expected, trials = search(network, table_of(), pictures, 65, judge=judge)
    assert trials.run_now == len(all_at_once) > 6 and trials.from_cache == 0

    judge, first = counting(limit=4)
    with pytest.raises(Stopped):
        search(network, table_of(), pictures, 65, judge=judge, cache=tmp_path, graph="g")
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'{"islands": "torn')

    judge, rest = counting()
    _, table, trials = search(
        network, table_of(), pictures, 65, judge=judge, cache=tmp_path, graph="g"
    )
    assert table == expected
    assert len(first) == 4 and len(first) + len(rest) == len(all_at_once)
    assert (trials.run_now, trials.from_cache) == (len(rest), 4)

    judge, none = counting()
    _, table, trials = search(
        network, table_of(), pictures, 65, judge=judge, cache=tmp_path, graph="g"
    )
    assert table == expected and not none and trials.from_cache == len(all_at_once)


@pytest.mark.parametrize("change", ["graph", "pictures", "judge", "low"])
def test_another_question_is_not_answered_from_the_cache(
    network, pictures, tmp_path: Path, change: str
) -> None:
    def asked(graph="g", name="n", scale=1.0, low="float16") -> Trials:
        seen = {key: picture * np.float32(scale) for key, picture in pictures.items()}
        judge = Judge(name, simulated_judge().open, sees_sums=False)
        trials = Trials(
            network, float_tree(network), low, seen, judge=judge, cache=tmp_path, graph=graph
        )
        trials.measure(frozenset(), "all low")
        return trials

    assert asked().run_now == 1 and asked().run_now == 0
    other = {
        "graph": {"graph": "h"},
        "pictures": {"scale": 0.5},
        "judge": {"name": "m"},
        "low": {"low": "bfloat16"},
    }[change]
    assert asked(**other).run_now == 1


def test_trials_of_other_code_are_not_reused(
    network, pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change in the rooms that make and run the graphs counts; one elsewhere does not."""
    for room in ("graph", "parity", "cli"):
        (tmp_path / room).mkdir()
    monkeypatch.setattr(trials_module, "_PACKAGE", tmp_path)

    def are_new() -> bool:
        trials = Trials(
            network, float_tree(network), "float16", pictures, judge=simulated_judge(),
            cache=tmp_path / "cache",
        )  # fmt: skip
        trials.measure(frozenset(), "nothing in float32")
        return trials.from_cache == 0

    assert are_new() and not are_new()
    for room in ("graph", "parity"):
        (tmp_path / room / "rounding.py").write_text("ROUNDS = True\n")
        assert are_new() and not are_new()
    (tmp_path / "cli" / "words.py").write_text("WORD = ''\n")
    assert not are_new()


def test_a_cache_that_cannot_be_written(network, pictures, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot use the cache folder .*--cache"):
        search(network, table_of(), pictures, 65, cache=tmp_path / "file" / "below")


def test_blocks() -> None:
    names = ["x", "s/0/a/b/One_0", "s/0/a/b/Two_0", "s/0/c[1]/One_0", "s/0/One_0", "s/0/d/e/f"]
    tree = block_tree(names)
    assert (tree.path, tree.pattern, tree.nodes) == ("", "*", frozenset(names))
    assert [child.path for child in tree.children] == ["x", "s"]
    block = tree.children[1]  # "s" and "s/0" hold the same nodes: the shorter name stays
    assert [(child.path, child.pattern) for child in block.children] == [
        ("s/0/a", "s/0/a/*"),
        ("s/0/c[1]/One_0", "s/0/c[[]1]/One_0"),
        ("s/0/One_0", "s/0/One_0"),
        ("s/0/d/e/f", "s/0/d/e/f"),
    ]
    wanted = frozenset(["s/0/a/b/One_0", "s/0/a/b/Two_0", "x"])
    assert [found.pattern for found in cover(tree, wanted)] == ["x", "s/0/a/*"]
    assert parts(tree, wanted) == [{"x"}, {"s/0/a/b/One_0", "s/0/a/b/Two_0"}]
    assert parts(tree, frozenset(["x"])) == []


def test_traffic_by_hand(pictures) -> None:
    """3 elements per pixel and tensor."""
    model = graph_of(
        "[a] x = Mul (image, third)\n[b] y = Identity (x)\n[c] z = Relu (y)\n"
        "[d] restored = Add (z, image)",
        third=1 / 3,
    )
    traffic = Traffic(model, pictures["one"].shape)
    tensors = 2 + 2 + 3  # read and written by Mul, Relu and Add; Identity is a view
    whole = frozenset("abcd")
    assert traffic.bytes_per_pixel(whole) == tensors * 3 * 4 and traffic.casts(whole) == 0
    # image is cast once for its two readers, and the result back
    assert traffic.casts(frozenset()) == 2
    assert traffic.bytes_per_pixel(frozenset()) == tensors * 3 * 2 + 2 * 3 * 6
    one = frozenset("c")  # y and z cross as well
    assert traffic.casts(one) == 4
    assert traffic.bytes_per_pixel(one) == (tensors + 2) * 3 * 2 + 4 * 3 * 6
