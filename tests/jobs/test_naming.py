"""Which file becomes which: folders, sub-folders, patterns, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from inverter import picture

from maxim_deploy.errors import UsageError
from maxim_deploy.jobs.naming import FilePlan, and_skipped, plan_files
from maxim_deploy.jobs.record import Fingerprint, ResumeRecord
from maxim_deploy.jobs.result_names import incomplete_beside


def targets(plan: FilePlan) -> list[str]:
    assert plan.failures == []
    return [str(target) for target in plan.targets.values()]


def errors(plan: FilePlan) -> list[str]:
    assert all(result.status == "failed" and result.output is None for result in plan.failures)
    return [result.error or "" for result in plan.failures]


@pytest.mark.parametrize("out", ["out", "out/", "out.d/", "existing.png", "deep/down"])
def test_one_file_to_a_folder(folder: Path, out: str):
    picture("a.jpg")
    Path("existing.png").mkdir()
    assert targets(plan_files("a.jpg", out)) == [str(Path(out, "a.png"))]


@pytest.mark.parametrize("out", ["b.png", Path("new/b.JPG")])
def test_one_file_to_one_file(folder: Path, out: str | Path):
    picture("a.jpg")
    assert targets(plan_files(Path("a.jpg"), out)) == [str(out)]
    assert not Path("new").exists()


def test_several_files_to_a_folder_in_their_order(folder: Path):
    names = [picture(name) for name in ("b.png", "x/a.bmp", "c.webp")]
    plan = plan_files(iter(names), "out.png")
    assert targets(plan) == ["out.png/b.png", "out.png/a.png", "out.png/c.png"]
    assert list(plan.targets) == names


def test_a_folder_means_its_image_and_video_files(folder: Path):
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "sub/c.png"):
        picture(f"in/{name}")
    for name in ("notes.txt", "Makefile"):
        Path("in", name).touch()
    for name in ("a.mov", "d.m4v", "e.avi"):
        Path("in", name).write_bytes(b"not read")
    plan = plan_files("in", "out")
    names = ["a.png", "a.mov", "b.png", "d.mp4", "e.mkv"]
    assert sorted(targets(plan)) == sorted(f"out/{name}" for name in names)
    assert plan.skipped == 2


def test_a_folder_of_one_image_still_gives_a_folder(folder: Path):
    picture("in/a.png")
    assert targets(plan_files("in", "out.png")) == ["out.png/a.png"]


def test_a_file_is_taken_by_its_content_when_it_is_named(folder: Path):
    picture("a.png").rename("photo")
    assert targets(plan_files("photo", "out")) == ["out/photo.png"]


def test_a_file_listed_twice_is_done_once(folder: Path):
    picture("in/a.png")
    Path("link").symlink_to("in")
    plan = plan_files(["in/a.png", "in", "./in/../in/a.png", "link"], "out")
    assert targets(plan) == ["out/a.png"]


# Sub-folders


def test_sub_folders_on_request_and_the_same_below_the_output(folder: Path):
    for name in ("a.png", "x/b.jpg", "x/y/a.png", ".hidden/c.png", "x/.d.png"):
        picture(f"in/{name}")
    plan = plan_files("in", "out", recursive=True)
    assert targets(plan) == ["out/a.png", "out/x/b.png", "out/x/y/a.png"]
    assert targets(plan_files("in", "out")) == ["out/a.png"]


def test_earlier_results_below_an_input_are_no_inputs(folder: Path):
    for name in ("in/a.png", "in/x/b.png", "in/restored/a.png", "in/restored/x/b.png"):
        picture(name)
    plan = plan_files("in", "in/restored", recursive=True)
    assert targets(plan) == ["in/restored/a.png", "in/restored/x/b.png"]


def test_links_to_folders_are_not_followed(folder: Path):
    picture("in/x/a.png")
    Path("in/x/loop").symlink_to("..")
    assert targets(plan_files("in", "out", recursive=True)) == ["out/x/a.png"]


def test_a_file_below_two_inputs_is_done_once(folder: Path):
    picture("in/x/a.png")
    assert targets(plan_files(["in", "in/x"], "out", recursive=True)) == ["out/x/a.png"]


# Patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["out/a.png", "out/b.png"]),
        ("in/[ab].*", ["out/a.png", "out/b.png"]),
        ("in/**/*.png", ["out/a.png", "out/b.png", "out/c.png"]),
        ("in/*", ["out/a.png", "out/b.png"]),
        ("in/?/c.*", ["out/c.png"]),
    ],
)
def test_patterns(folder: Path, pattern: str, expected: list[str]):
    for name in ("a.png", "b.png", "x/c.png", ".d.png"):
        picture(f"in/{name}")
    Path("in/notes.txt").touch()
    assert targets(plan_files(pattern, "out")) == expected
    assert targets(plan_files(str(folder / pattern), "out")) == expected


def test_one_match_still_gives_a_folder(folder: Path):
    picture("in/a.png")
    assert targets(plan_files("in/*.png", "out.png")) == ["out.png/a.png"]


def test_a_file_whose_name_looks_like_a_pattern(folder: Path):
    picture("a[1].png")
    picture("a1.png")
    assert targets(plan_files("a[1].png", "out")) == ["out/a[1].png"]


# What is refused


def test_what_would_overwrite_an_input_or_another_result(folder: Path):
    for name in ("in/a.png", "in/a.before-after.jpg", "in/b.webp", "x/a.png"):
        picture(name)
    clash = plan_files(["in/a.png", "x/a.png", "in/b.webp"], "out")
    assert [str(target) for target in clash.targets.values()] == ["out/b.png"]
    assert errors(clash) == [
        f"image '{one}' | output 'out/a.png' is claimed by '{other}' too | "
        "restore them into separate folders"
        for one, other in (("in/a.png", "x/a.png"), ("x/a.png", "in/a.png"))
    ]
    assert all(isinstance(failure.cause, UsageError) for failure in clash.failures)
    compared = plan_files("in", "out", compare=True)
    assert "output 'out/a.before-after.png' is claimed by 'in/a.png' too" in errors(compared)[0]
    Path("in/b.before-after.png").touch()  # an input that cannot be read is still an input
    inside = plan_files(["in/b.webp", "in/b.before-after.png"], "in", compare=True)
    assert "image 'in/b.webp' | output 'in/b.before-after.png' would" in errors(inside)[1]
    Path("same").symlink_to("in")
    assert "output 'same/a.png' would overwrite an input" in errors(plan_files("in", "same"))[-1]


def test_inputs_that_are_not_there(folder: Path):
    picture("a.png")
    Path("empty.png").touch()
    plan = plan_files(["a.png", "none.png", "none.mp4", "empty.png", "in/*.jpg"], "out")
    assert list(plan.targets) == [Path("a.png")]
    assert errors(plan) == [
        "image 'none.png' | cannot be read: No such file or directory",
        "video 'none.mp4' | cannot be read: No such file or directory",
        "image 'empty.png' | the file is empty",
        "image 'in/*.jpg' | no file has such a name",
    ]


def test_nothing_to_do_and_names_that_are_not_written(folder: Path):
    picture("a.png")
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()
    with pytest.raises(UsageError, match="no image or video files in there; skipped 1 of other"):
        plan_files("empty", "out")
    with pytest.raises(UsageError, match=r"suffix '\.gif'.* the formats written are \.png"):
        plan_files("a.png", "b.gif")
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "empty"]


def test_a_plan_without_an_output_lists_its_inputs(folder: Path):
    for name in ("a.png", "b.jpg"):
        picture(name)
    plan = plan_files(["a.png", "./a.png", "b.jpg"], None)
    assert plan.output is None
    assert list(plan.targets) == [Path("a.png"), Path("b.jpg")]


# A folder restored into itself


def recorded(*names: str) -> None:
    """A record of an earlier run that names these files as its results."""
    record = ResumeRecord({})
    for name in names:
        record.note(Fingerprint("a", 0, ""), [Path(name)])


def test_results_that_a_record_names_are_no_inputs(folder: Path):
    for name in ("in/a.jpg", "in/a.png", "in/a.before-after.png", "in/x/b.jpg", "in/x/b.png"):
        picture(name)
    recorded("in/a.png", "in/a.before-after.png", "in/x/b.png")
    for inputs in ("in", "in/*", [f"in/{name}" for name in ("a.jpg", "a.png")]):
        plan = plan_files(inputs, "in")
        assert list(plan.targets.items()) == [(Path("in/a.jpg"), Path("in/a.png"))]
        assert (plan.failures, plan.earlier) == ([], 1 if isinstance(inputs, list) else 2)
    plan = plan_files("in", "./in/../in", recursive=True, compare=True)
    assert list(plan.targets) == [Path("in/a.jpg"), Path("in/x/b.jpg")]
    assert and_skipped(plan) == "; skipped 3 results of an earlier run"


def test_results_are_inputs_of_a_run_into_another_folder(folder: Path):
    picture("in/a.png")
    recorded("in/a.png")
    assert targets(plan_files("in", "out")) == ["out/a.png"]
    assert targets(plan_files("in/a.png", "in/b.png")) == ["in/b.png"]
    with pytest.raises(UsageError, match="no image .* there; skipped 1 result of an earlier run"):
        plan_files("in", "in")


def test_a_result_that_a_user_has_replaced_is_an_input(folder: Path):
    picture("in/a.jpg")
    picture("in/a.png", 1)
    recorded("in/a.png")
    picture("in/a.png", 2)
    assert "would overwrite an input" in errors(plan_files("in/a.png", "in/"))[0]
    assert len(errors(plan_files("in", "in"))) == 2


# Links and long names


def test_outputs_are_told_apart_by_their_true_paths(folder: Path):
    for name in ("a.png", "b.png"):
        picture(name)
    Path("out").mkdir()
    Path("out/a.png").symlink_to("b.png")
    assert (
        "'out/a.png' is claimed by 'b.png' too" in errors(plan_files(["a.png", "b.png"], "out"))[0]
    )
    Path("out/b.png").symlink_to("../b.png")
    assert "would overwrite an input" in errors(plan_files(["b.png"], "out"))[0]


def test_a_name_that_becomes_too_long_is_refused(folder: Path):
    stem = "\u5199" * 82  # 246 bytes
    picture("a.png").rename(f"{stem}.mp4")
    assert targets(plan_files(f"{stem}.mp4", "out")) == [f"out/{stem}.mp4"]
    (error,) = errors(plan_files(f"{stem}.mp4", "out", compare=True))
    assert error.endswith("has a name of 263 bytes | file systems take 255 | shorten it")
    kept = incomplete_beside(Path(f"out/{stem}.mp4"))
    assert len(os.fsencode(kept.name)) <= 255
    assert kept.name.endswith("\u5199.incomplete.mp4")
    assert "cannot be read: File name too long" in errors(plan_files("a" * 300, "out"))[0]
