"""Resuming from Python: what is finished, by which settings, and together with the command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cli.running import maxim_run
from click.testing import CliRunner
from inverter import Inverter, files, level, picture

import maxim_deploy
from maxim_deploy import VideoEncoding, __version__, restore_files, runtime
from maxim_deploy.cli.run import run
from maxim_deploy.jobs.record import NAME, Fingerprint, ResumeRecord
from maxim_deploy.runtime.info import result_settings


def statuses(restorer: object, names: list[str], **options: object) -> list[str]:
    return [r.status for r in restore_files(restorer, names, "out", resume=True, **options)]


@pytest.fixture
def names(folder: Path) -> list[str]:
    return [str(picture("a.png", 10)), str(picture("b.png", 20))]


def test_a_loaded_restorer_resumes_by_what_it_says_of_itself(names: list[str]):
    inverter, other = Inverter(), Inverter()
    other.info.settings["bundle"] = "another"
    assert statuses(inverter, names) == ["restored", "restored"]
    assert statuses(inverter, names) == ["finished", "finished"]
    assert statuses(inverter, names, rounding="truncate") == ["restored", "restored"]
    assert statuses(other, names) == ["restored", "restored"]
    picture("b.png", 21)
    assert statuses(other, names) == ["finished", "restored"]
    assert level("out/b.png") == 234


def test_a_run_that_was_closed_early_goes_on(names: list[str]):
    inverter = Inverter()
    results = restore_files(inverter, [*names, str(picture("c.png"))], "out", resume=True)
    next(results)
    results.close()
    assert statuses(inverter, [*names, "c.png"]) == ["finished", "finished", "restored"]


def test_videos_depend_on_their_encoding_and_images_do_not(names: list[str]):
    from clips import clip

    inverter, inputs = Inverter(), [*names, str(clip("c.mp4", (0, 3600)))]
    assert statuses(inverter, inputs) == ["restored"] * 3
    again = statuses(inverter, inputs, encoding=VideoEncoding(crf=30))
    assert again == ["finished", "finished", "restored"]


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, []),
        ({"precision": "fp32", "threads": 2}, ["--precision", "fp32"]),
        ({"tile": 512, "overlap": 32}, ["--tile", "512", "--overlap", "32", "--device", "0"]),
        ({"tile": "auto", "max_memory": "4GiB"}, ["--max-memory", "4GiB"]),
        ({"rounding": "truncate", "self_ensemble": True}, ["--rounding", "truncate", "--ensemble"]),
    ],
)
def test_python_and_the_command_resume_each_other(
    names: list[str], network: Inverter, options: dict[str, object], arguments: list[str]
):
    Path("bundle").mkdir()
    Path("bundle/manifest.json").write_text("a manifest")
    assert maxim_run("a.png", "-o", "out", "--resume", *arguments).exit_code == 0
    assert statuses("bundle", names, **options) == ["finished", "restored"]
    again = maxim_run(*names, "-o", "out", "--resume", *arguments)
    assert "0 restored, 2 finished before" in again.stderr


def test_a_bundle_replaced_before_it_is_loaded(
    names: list[str], network: Inverter, monkeypatch: pytest.MonkeyPatch
):
    """What is recorded is what was loaded."""
    manifest = Path("bundle/manifest.json")
    manifest.parent.mkdir()
    manifest.write_text("a manifest")

    def load_replaced(bundle: Path, **options: object) -> Inverter:
        manifest.write_text("another manifest")
        network.info.settings = result_settings(bundle, options)
        return network

    monkeypatch.setattr(runtime, "load", load_replaced)
    assert statuses("bundle", names) == ["restored", "restored"]
    assert statuses("bundle", names) == ["finished", "finished"]
    manifest.write_text("a manifest")
    assert statuses("bundle", names) == ["restored", "restored"]


def test_records_of_earlier_versions_are_still_valid(names: list[str], network: Inverter):
    """The keys of the settings are those that the first versions hashed."""
    Path("bundle").mkdir()
    Path("bundle/manifest.json").write_text("a manifest")
    settings = {
        "maxim_deploy": __version__,
        "bundle": hashlib.sha256(b"a manifest").hexdigest(),
        "rounding": "nearest",
        "ensemble": False,
        "backend": "auto",
        "precision": "auto",
        "overlap": 32,
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    picture("out/a.png", 245)
    line = {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        "input": {**vars(Fingerprint.of(Path("a.png"))), "mtime_ns": 0},
        "outputs": {"a.png": hashlib.sha256(Path("out/a.png").read_bytes()).hexdigest()},
    }
    (Path("out") / NAME).write_text(f"\n{json.dumps(line)}\n")
    assert statuses("bundle", names, overlap=32) == ["finished", "restored"]


def test_without_resume_nothing_is_recorded(names: list[str]):
    list(restore_files(Inverter(), names, "out"))
    assert files("out") == ["a.png", "b.png"]


def test_a_restorer_of_a_bundle_resumes_what_the_command_has_done(
    names: list[str], demo_bundle: Path
):
    arguments = ["a.png", "-o", "out", "--resume", "--tile", "128"]
    assert CliRunner().invoke(run, [str(demo_bundle), *arguments]).exit_code == 0
    with maxim_deploy.load(demo_bundle, tile=128, threads=1) as restorer:
        assert statuses(restorer, names) == ["finished", "restored"]
    with maxim_deploy.load(demo_bundle) as restorer:
        assert statuses(restorer, names) == ["restored", "restored"]


def test_a_record_that_is_a_link_is_an_error(tmp_path: Path) -> None:
    """Somebody else who may write into the folder would choose what the next line goes into."""
    (victim := tmp_path / "victim").write_text("mine\n")
    (tmp_path / NAME).symlink_to(victim)
    (result := tmp_path / "a.png").write_bytes(b"a")
    with pytest.raises(OSError, match="is a symbolic link: remove it"):
        ResumeRecord({"a": 1}).note(Fingerprint.of(result), [result])
    with pytest.raises(OSError, match="is a symbolic link: remove it"):
        ResumeRecord({"a": 1}).has(result, [result])
    assert victim.read_text() == "mine\n"
