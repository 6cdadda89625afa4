"""Kinds of work, by operators and by the names of nodes."""

from __future__ import annotations

import pytest

from maxim_deploy.spec.kinds import KINDS, MOVES, kind_of, kind_of_name, strongest


def test_kinds() -> None:
    assert kind_of("FusedGemm") == "matrix product"
    assert kind_of("Mul") == kind_of("Mul", "Add") == "elementwise"
    assert kind_of("Mul", "Gelu") == "GELU"
    assert kind_of("Transpose", "Gelu") == "layout change"
    assert kind_of("NobodyKnows") == "other"
    assert strongest(["layout change", "GELU", "matrix product"]) == "matrix product"
    assert strongest(["GELU", "matrix product"], generated=True) == "GELU"
    assert strongest(["matrix product"], generated=True) == "elementwise"
    assert strongest([]) == "other"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("stages/0/skip/0/own/Gemm_0", "matrix product"),
        ("stages/0/output/0/Conv_0/Cast_0", "cast"),
        ("Shape_1", "other"),
        ("Split_0", "copy"),
        ("crop/rows", "other"),
        ("stages/0/Gemm_0_myl0_3", "other"),
        ("", "other"),
    ],
)
def test_kinds_of_names(name: str, kind: str) -> None:
    assert kind_of_name(name) == kind


def test_moves_are_kinds() -> None:
    assert set(KINDS) > MOVES
