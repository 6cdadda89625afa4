"""`maxim-run` with objects of an S3 server: names, results, records, and what is left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli.running import maxim_run
from inverter import Inverter, level, picture
from objects.stores import Bucket

from maxim_deploy import FileProgress, restore_files

GUIDE = Path(__file__).parents[2] / "docs/guides/object-stores.md"


@pytest.fixture(autouse=True)
def here(folder: Path) -> Path:
    return folder


@pytest.fixture
def full(bucket: Bucket) -> Bucket:
    """Three pictures below photos/, one of them deeper, and what a folder leaves out."""
    for key, value in (("a.jpg", 10), ("b.png", 20), ("sub/c.png", 30), (".hidden.png", 40)):
        bucket.picture(f"photos/{key}", value)
    for key in ("photos/", "photos/notes.txt", "photos-too/d.png"):
        bucket.put(key, b"" if key.endswith("/") else b"x")
    return bucket


def run(*args: str) -> list[dict[str, object]]:
    """The records of a run without a failure."""
    result = maxim_run(*args, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def nothing_is_left(here: Path) -> bool:
    return list((here / "temporary").iterdir()) == []


def test_a_prefix_becomes_a_prefix(full: Bucket, network: Inverter, here: Path):
    lines = run(f"{full.url}/photos", "-o", f"{full.url}/restored")
    assert sorted((x["input"], x["output"]) for x in lines) == [
        (f"{full.url}/photos/a.jpg", f"{full.url}/restored/a.png"),
        (f"{full.url}/photos/b.png", f"{full.url}/restored/b.png"),
    ]
    assert full.keys("restored", records=True) == ["restored/a.png", "restored/b.png"]
    assert full.level("restored/b.png") == 235
    assert nothing_is_left(here) and not full.unfinished_uploads()


def test_as_the_same_files_in_folders(full: Bucket, network: Inverter):
    for key in full.keys("photos/"):
        path = Path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not key.endswith("/"):
            path.write_bytes(full.get(key))
    here = maxim_run("photos", "--recursive", "--compare", "-o", "restored")
    there = maxim_run(
        f"{full.url}/photos/", "--recursive", "--compare", "-o", f"{full.url}/restored"
    )
    names = [name.removeprefix(f"{full.url}/") for name in there.stdout.split()]
    assert sorted(names) == sorted(here.stdout.split())
    made = sorted(str(path) for path in Path("restored").rglob("*.png"))
    assert full.keys("restored") == made and len(made) == 6
    assert [full.get(name) for name in made] == [Path(name).read_bytes() for name in made]
    assert "skipped 1 of other suffixes" in there.stderr


def test_one_object_becomes_one_of_another_format(full: Bucket, network: Inverter):
    (line,) = run(f"{full.url}/photos/b.png", "-o", f"{full.url}/out/b.webp")
    assert line["output"] == f"{full.url}/out/b.webp"
    assert full.get("out/b.webp")[8:12] == b"WEBP"


def test_one_object_into_a_prefix_whose_name_has_a_dot(full: Bucket, network: Inverter):
    full.picture("out.d/other.png")
    for given in ("new.d/", "out.d"):
        run(f"{full.url}/photos/b.png", "-o", f"{full.url}/{given}")
    assert {"new.d/b.png", "out.d/b.png"} <= set(full.keys())


def test_between_files_and_objects(full: Bucket, network: Inverter):
    picture("mine/x.png", 50)
    run(f"{full.url}/photos/a.jpg", "mine", "-o", "out")
    assert (level("out/a.png"), level("out/x.png")) == (245, 205)
    run(f"{full.url}/photos/a.jpg", "mine", "-o", f"{full.url}/out")
    assert full.keys("out") == ["out/a.png", "out/x.png"]


def test_a_pattern(full: Bucket, network: Inverter):
    lines = run(f"{full.url}/photos/**/*.png", "-o", "out")
    assert sorted(str(x["output"]) for x in lines) == ["out/b.png", "out/c.png"]
    full.picture("photos/[1].png")
    (line,) = run(f"{full.url}/photos/[1].png", "-o", "out")
    assert line["output"] == "out/[1].png"
    none = maxim_run(f"{full.url}/photos/*.bmp", "-o", "out")
    assert none.exit_code == 1 and f"'{full.url}/photos/*.bmp'" in none.stderr


def test_from_python(full: Bucket, network: Inverter):
    results = list(restore_files("bundle", f"{full.url}/photos", f"{full.url}/out", resume=True))
    assert [result.status for result in results] == ["restored", "restored"]
    assert [result.output for result in results] == [f"{full.url}/out/{x}.png" for x in "ab"]


def test_the_example_of_the_guide(full: Bucket, network: Inverter, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    exec(example.replace("s3://bucket", full.url), {})
    assert capsys.readouterr().out.splitlines() == [
        f"restored {full.url}/restored/a.png",
        f"restored {full.url}/restored/b.png",
    ]


def test_progress_counts_what_is_stored(full: Bucket, network: Inverter):
    steps: list[FileProgress] = []
    where = (f"{full.url}/photos", f"{full.url}/out")
    for _ in restore_files("bundle", *where, progress=steps.append):
        pass
    assert {str(step.file) for step in steps} == {"a.jpg", "b.png"}
    told = [step for step in steps if step.result]
    assert [(step.files_done, step.files_total) for step in told] == [(1, 2), (2, 2)]
    assert all(step.result.output.startswith(full.url) for step in told)


def test_an_iterator_that_is_closed_early(full: Bucket, network: Inverter, here: Path):
    for number in range(20):
        full.picture(f"photos/{number}.png")
    results = restore_files("bundle", f"{full.url}/photos", f"{full.url}/out")
    next(results)
    results.close()
    assert 1 <= len(full.keys("out")) < 22 and nothing_is_left(here)


def test_results_below_their_inputs(full: Bucket, network: Inverter):
    """The results lie below the input, and are no inputs of the next run."""
    for _ in range(2):
        lines = run(f"{full.url}/photos/", "--recursive", "-o", f"{full.url}/photos/out")
        assert len(lines) == 3
    full.remove("photos-too/d.png")
    for _ in range(2):
        assert len(run(full.url, "--recursive", "-o", f"{full.url}/all")) == 6


KEYS = ["photos/../../x.png", "photos/./x.png", "photos//x.png"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_leads_out_of_the_folder_is_refused(
    bucket: Bucket, network: Inverter, here: Path, key: str
):
    bucket.picture(key)
    bucket.picture("photos/fine.png")
    before = set(here.parent.rglob("x.png"))
    result = maxim_run(f"{bucket.url}/photos", "--recursive", "-o", "a/b/out")
    assert result.exit_code == 1 and "nothing between two slashes" in result.stderr
    assert set(here.parent.rglob("x.png")) == before
    assert level("a/b/out/fine.png") == 245


def test_failures_name_the_object_and_the_others_go_on(full: Bucket, network: Inverter):
    full.put("photos/broken.png", b"\x89PNG\r\n\x1a\nnothing")
    full.put("photos/empty.png", b"")
    full.put("photos/photo.heic", b"x")
    result = maxim_run(f"{full.url}/photos", "-o", f"{full.url}/out", "--strict")
    assert result.exit_code == 1
    for name, why in (("broken", "damaged"), ("empty", "is empty"), ("photo", "not read")):
        lines = [line for line in result.stderr.splitlines() if f"/photos/{name}." in line]
        assert why in lines[-1] or name == "broken", lines
        assert "maxim-run." not in lines[-1]
    assert full.keys("out") == ["out/a.png", "out/b.png"]


def test_rivals_and_inputs_are_not_overwritten(full: Bucket, network: Inverter):
    full.picture("photos/a.bmp.png")
    full.picture("photos/a.png")
    result = maxim_run(f"{full.url}/photos", "-o", f"{full.url}/out")
    assert result.exit_code == 1 and result.stderr.count("is claimed by") == 2
    assert f"'{full.url}/photos/a.jpg'" in result.stderr
    same = maxim_run(f"{full.url}/photos/b.png", "-o", f"{full.url}/photos/b.png")
    assert same.exit_code == 1 and "would overwrite an input" in same.stderr
    beside = maxim_run(f"{full.url}/photos", "-o", f"{full.url}/photos/")
    assert beside.exit_code == 2 and "contains the inputs" in beside.stderr


def test_an_object_that_vanishes(full: Bucket, network: Inverter):
    for number in range(12):
        full.picture(f"many/{number:02}.png")
    network.on_call = lambda call: call == 1 and full.remove("many/11.png")
    result = maxim_run(f"{full.url}/many", "-o", f"{full.url}/out")
    assert result.exit_code == 1
    assert f"'{full.url}/many/11.png' | cannot be read: there is no such object" in result.stderr
    assert len(full.keys("out")) == 11


def test_few_files_are_on_the_disk(bucket: Bucket, network: Inverter, here: Path):
    for number in range(40):
        bucket.picture(f"many/{number}.png")
    most = [0]

    def look(_: int) -> None:
        found = [path for path in (here / "temporary").rglob("*") if path.is_file()]
        most[0] = max(most[0], len(found))

    network.on_call = look
    assert len(run(f"{bucket.url}/many", "-o", f"{bucket.url}/out")) == 40
    assert 1 <= most[0] <= 20 and nothing_is_left(here)


def test_only_the_user_may_read_temporary_files(full: Bucket, network: Inverter, here: Path):
    modes: list[int] = []
    network.on_call = lambda _: modes.extend(
        path.stat().st_mode & 0o777 for path in (here / "temporary").iterdir()
    )
    run(f"{full.url}/photos", "-o", "out")
    assert set(modes) == {0o700}


def test_a_video(bucket: Bucket, network: Inverter):
    pytest.importorskip("av", reason="pip install 'maxim-deploy[video]'")
    from clips import clip

    bucket.put("films/clip.mp4", clip(Path("clip.mp4"), sound=False).read_bytes())
    bucket.put("out/clip.incomplete.mp4", b"of an earlier run")
    (line,) = run(f"{bucket.url}/films", "-o", f"{bucket.url}/out", "--resume")
    assert line["output"] == f"{bucket.url}/out/clip.mp4" and line["frames"]
    maxim_run("clip.mp4", "-o", "here.mp4")
    assert bucket.get("out/clip.mp4") == Path("here.mp4").read_bytes()
    assert bucket.keys("out") == ["out/clip.mp4"]
    (line,) = run(f"{bucket.url}/films", "-o", f"{bucket.url}/out", "--resume")
    assert line["status"] == "finished"


def test_a_video_that_ends_early_keeps_its_frames(bucket: Bucket, network: Inverter):
    pytest.importorskip("av", reason="pip install 'maxim-deploy[video]'")
    from clips import clip

    bucket.put("clip.mp4", clip(Path("clip.mp4"), sound=False).read_bytes())

    def fail(call: int) -> None:
        if call == 3:
            raise OSError("the disk is gone")

    network.on_call = fail
    result = maxim_run(f"{bucket.url}/clip.mp4", "-o", f"{bucket.url}/out/")
    assert result.exit_code == 1
    assert f"they are in '{bucket.url}/out/clip.incomplete.mp4'" in result.stderr
    assert bucket.keys("out") == ["out/clip.incomplete.mp4"]


def test_workers_of_a_cluster_take_no_urls(full: Bucket, network: Inverter):
    pytest.importorskip("ray", reason="pip install 'maxim-deploy[ray]'")
    result = maxim_run(f"{full.url}/photos", "-o", f"{full.url}/restored", "--ray", "auto")
    assert result.exit_code == 2 and "omit URLs" in result.stderr
