"""Profiles: what a SPEC may be, what it covers, which one runs what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxim_deploy.errors import UsageError
from maxim_deploy.spec.decoding import decoded, encoded
from maxim_deploy.spec.profiles import (
    PROFILE_NAMES,
    Profile,
    Shape,
    overlapping,
    profile_from_spec,
    profiles_from_specs,
    tightest,
)


def sizes(spec: str, io: str = "image") -> list[tuple[int, int, int]]:
    profile = profile_from_spec(spec, io)
    return [(s.batch, s.height, s.width) for s in (profile.min, profile.opt, profile.max)]


@pytest.mark.parametrize(
    "spec, expected",
    [
        ("720p", [(1, 704, 1280), (1, 720, 1280), (1, 768, 1280)]),
        ("1080p", [(1, 1024, 1920), (1, 1080, 1920), (1, 1088, 1920)]),
        ("4k", [(1, 2112, 3840), (1, 2160, 3840), (1, 2176, 3840)]),
        ("photo", [(1, 256, 256), (1, 1024, 1536), (1, 2048, 2048)]),
        ("tile512", [(1, 512, 512), (8, 512, 512), (8, 512, 512)]),
        ("1080p-portrait", [(1, 1920, 1024), (1, 1920, 1080), (1, 1920, 1088)]),
        ("1x1", [(1, 1, 1)] * 3),
        ("5760x5760", [(1, 5760, 5760)] * 3),
        ("100x200@4", [(4, 100, 200)] * 3),
        ("64x64:96X128:256x512@1:2:8", [(1, 64, 64), (2, 96, 128), (8, 256, 512)]),
        (" 720p@2 ", [(2, 704, 1280), (2, 720, 1280), (2, 768, 1280)]),
    ],
)
def test_specs(spec: str, expected: list[tuple[int, int, int]]) -> None:
    assert sizes(spec) == expected


def test_the_tensor_form_takes_the_next_multiples_of_64() -> None:
    assert sizes("720p", "tensor") == [(1, 704, 1280), (1, 768, 1280), (1, 768, 1280)]
    assert sizes("1080p", "tensor")[2] == (1, 1088, 1920)
    for name in PROFILE_NAMES:
        assert all(side % 64 == 0 for _, *sides in sizes(name, "tensor") for side in sides)
    with pytest.raises(UsageError, match="multiples of 64, not 100; the next is 128"):
        profile_from_spec("64x64:64x64:100x64", "tensor")


@pytest.mark.parametrize(
    "spec, message",
    [
        ("1080", r"unknown profile '1080' \(did you mean '1080p'\?\); it is a name \(720p, "),
        ("tile512-portrait", "unknown profile"),
        ("64x64:128x128", "unknown profile"),
        ("0x64", "unknown profile"),
        ("64x64x3", "unknown profile"),
        ("", "unknown profile"),
        ("64x64@", "write the batch as @N or @MIN:OPT:MAX, not '@'"),
        ("64x64@0", "not '@0'"),
        ("64x64@1:2", "not '@1:2'"),
        ("64x64:32x128:256x256", "min 64x64, opt 32x128, max 256x256 must not descend"),
        ("128x64:128x64:64x128", "must not descend"),
        ("64x64@4:2:8", "must not descend"),
        ("8000x8000", "64.0 megapixels with.*tensors of 64 channels would have more than 2.31 - 1"),
        ("4k@8", "at most 33.6"),
        ("5780x5780", "is 33.9 megapixels with sides padded to multiples of 64; .* at most 33.6"),
        ("1x999999", "is 64.0 megapixels with sides padded"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile_from_spec(spec, "image")


def test_several() -> None:
    assert [p.name for p in profiles_from_specs(["720p", "1080p"], "image")] == ["720p", "1080p"]
    with pytest.raises(UsageError, match="needs at least one profile"):
        profiles_from_specs([], "image")
    with pytest.raises(UsageError, match="'64x64' and '64x64@1' are the same"):
        profiles_from_specs(["64x64", "64x64@1"], "image")


def test_overlaps_are_told() -> None:
    photo, video, portrait, wide = profiles_from_specs(
        ["photo", "720p", "720p-portrait", "2048x2048:2048x2048:2048x4096"], "image"
    )
    assert overlapping([photo, video, portrait, wide]) == [
        ("photo", "720p"), ("photo", "720p-portrait"),
        ("photo", "2048x2048:2048x2048:2048x4096"),
    ]  # fmt: skip
    assert not photo.overlaps(profile_from_spec("512x512@2", "image"))


def test_the_tightest_that_takes_a_shape_runs_it() -> None:
    specs = ["photo", "64x64:512x512:1024x1024", "512x512", "512x512@1:4:8"]
    profiles = profiles_from_specs(specs, "image")
    assert tightest(profiles, Shape(1, 512, 512)) == 2  # exact before any range
    assert tightest(profiles, Shape(4, 512, 512)) == 3
    assert tightest(profiles, Shape(1, 500, 512)) == 1  # tight before wide
    assert tightest(profiles, Shape(1, 1025, 512)) == 0
    assert tightest(profiles, Shape(1, 4096, 512)) is None


SIDES = st.integers(1, 4096)


@given(low=st.tuples(SIDES, SIDES), more=st.tuples(SIDES, SIDES))
def test_json_round_trip_and_bounds(low: tuple[int, int], more: tuple[int, int]) -> None:
    shapes = [Shape(1, *low), Shape(1, *low), Shape(2, low[0] + more[0], low[1] + more[1])]
    profile = Profile("x", *shapes)
    assert decoded(Profile, encoded(profile)) == profile
    assert profile.takes(shapes[0]) and profile.takes(shapes[2]) and not profile.fixed
    assert not profile.takes(Shape(3, *low)) and not profile.takes(Shape(1, low[0], low[1] - 1))
    assert shapes[2].dims("image") == (2, shapes[2].height, shapes[2].width, 3)
    assert shapes[2].dims("tensor") == (2, 3, shapes[2].height, shapes[2].width)
