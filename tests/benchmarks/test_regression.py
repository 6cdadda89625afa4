from __future__ import annotations

import pytest
from benchmarks.samples import ENVIRONMENT, handoff, record, timing

from maxim_deploy.benchmarks.regression import changes, lost, same_machine
from maxim_deploy.errors import MaximDeployError, UsageError

STEADY = (100, 101, 99, 100, 102, 98, 100)


def times(factor: float) -> list[float]:
    return [factor * ms for ms in STEADY]


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.3, "slower"), (0.7, "faster"), (1.0, None), (1.06, None)]
)
def test_a_regression_is_outside_the_noise_and_five_percent(
    factor: float, verdict: str | None
) -> None:
    (change,) = changes([record("a", *times(factor))], [record("a", *STEADY)])
    assert change.verdict == verdict
    assert (change.before_ms, change.now_ms) == (100, pytest.approx(100 * factor))
    assert change.ratio.median == pytest.approx(factor)
    assert str(change).startswith("S-1 random a 256x256 network: 100 ms before, ")


def test_scatter_widens_what_counts_as_noise() -> None:
    noisy = (100, 180, 90, 130, 95, 170, 110)
    (change,) = changes([record("a", *times(1.3))], [record("a", *noisy)])
    assert change.verdict is None


def test_few_rounds_have_no_verdict() -> None:
    (change,) = changes([record("a", *[300] * 5)], [record("a", *STEADY)])
    assert change.verdict is None and not change.comparable
    assert str(change).endswith("no verdict, 5 rounds are too few (6)")
    (change,) = changes([record("a", *[300] * 6)], [record("a", *STEADY)])
    assert change.verdict == "slower"


def test_what_fails_now_and_did_not() -> None:
    broken = [record(name, device=None, error="broken") for name in "abc"]
    assert lost(broken, [record("a"), record("b", error="broken as well")]) == broken[:1]
    assert lost([record("a")], [record("a")]) == []


@pytest.mark.parametrize("then, now", [(80, 280), (280, 80)])
def test_two_states_of_a_machine_have_no_verdict(then: float, now: float) -> None:
    earlier = [record("a", *STEADY, noise=handoff(then))]
    (change,) = changes([record("a", *times(1.3), noise=handoff(now))], earlier)
    assert change.verdict is None and not change.comparable
    assert f"a cache line took {then} ns from one to the next before, {now} now" in str(change)
    (change,) = changes([record("a", *times(1.3), noise=handoff(then + 8))], earlier)
    assert change.verdict == "slower"
    (change,) = changes([record("a", *times(1.3))], earlier)  # an older record does not tell
    assert change.verdict == "slower"
    both = [*earlier, record("a", *times(1.4), noise=handoff(now))]
    (change,) = changes([record("a", *times(1.3), noise=handoff(then))], both)
    assert change.verdict == "slower" and change.before_ms == 100


def test_only_the_same_thing_is_compared_and_the_last_of_it() -> None:
    earlier = [record("a", 1, 1, 1, 1, 1), record("a", *STEADY), record("b", *STEADY)]
    now = [
        record("a", *times(1.3)),
        record("a", *STEADY, batch=2),
        record("a", *STEADY, precision="fp16"),
        record("a", *STEADY, size=(64, 64)),
        record("a", *STEADY, threads=1),
        record("a", *STEADY, device="cuda:0 NVIDIA L4"),
        record("b", timings={}, error="broken"),
    ]
    (change,) = changes(now, earlier)
    assert change.ratio.median == pytest.approx(1.3)


def test_every_bracket_that_both_have() -> None:
    rounds = [[ms] for ms in STEADY]
    both = {"network": timing(rounds), "image": timing(rounds)}
    assert len(changes([record("a", timings=both)], [record("a", timings=both)])) == 2
    assert len(changes([record("a", timings=both)], [record("a", *STEADY)])) == 1


def test_nothing_compared_is_an_error() -> None:
    with pytest.raises(MaximDeployError, match="nothing was compared .* it has S-1 random b 256"):
        changes([record("a")], [record("b")])
    with pytest.raises(MaximDeployError, match="nothing was compared"):
        changes([record("a")], [record("a", error="broken")])


def test_another_machine_is_refused() -> None:
    own = record()
    assert same_machine([own], ENVIRONMENT) == [own]
    for other in ({"cpu": "6502"}, {"cpus": 4}, {"cpu_id": "Zilog 9"}, {"gpu": {"name": "L4"}}):
        with pytest.raises(UsageError, match="baseline of .*Z80.* this is another machine"):
            same_machine([own], ENVIRONMENT | other)
        mixed = [record(environment=ENVIRONMENT | other), own]
        assert same_machine(mixed, ENVIRONMENT) == [own]
    with pytest.raises(UsageError, match="another machine"):
        same_machine([], ENVIRONMENT)


def test_old_records_do_not_know_the_family() -> None:
    old = record(environment={"cpu": "Z80", "cpus": 2})
    assert same_machine([old], ENVIRONMENT) == [old]
