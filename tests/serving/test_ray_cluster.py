"""`maxim-run --ray` with Ray itself: on this machine, and on two nodes with faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from bundles import write_identity_bundle
from cli.commands import ROOT, TESTS, command
from inverter import files, level, picture
from PIL import Image

pytest.importorskip("ray", reason="pip install 'maxim-deploy[ray]'")

LOCAL = ("--ray", "local", "--workers", "2")


@pytest.fixture
def place(folder: Path) -> Path:
    write_identity_bundle(folder / "bundle")
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Ray writes a token for its clusters into the home folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}


class Popen(subprocess.Popen[str]):
    """`maxim-run`, in a session of its own as in a terminal."""

    def __init__(self, arguments: list[str], home: Path) -> None:
        super().__init__(
            [sys.executable, "-c", "from maxim_deploy.cli.main import run; run()", *arguments],
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def wait_for_results(process: Popen) -> None:
    while not (Path("out").is_dir() and len(list(Path("out").glob("*.png"))) > 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def is_worker_of(process: Popen, other: psutil.Process) -> bool:
    command = other.info["cmdline"]
    if not command or not command[0].startswith("ray::FileWorker"):
        return False
    return any(parent.pid == process.pid for parent in other.parents())


def lines_of(text: str) -> list[str]:
    return text.splitlines()


@pytest.mark.slow
def test_files_are_restored_on_this_machine(place: Path, every_processor: None):
    names = [str(picture(f"in/{k:02}.png", k, (70, 50))) for k in range(20)]
    Path("in/broken.png").write_bytes(b"no picture")
    arguments = ("bundle", "in", "-o", "out", "--resume")
    home = str(place)
    done = command("run", *arguments, *LOCAL, HOME=home)
    assert done.returncode == 1, done.stderr
    expected = [name.replace("in/", "out/") for name in names]
    assert sorted(lines_of(done.stdout)) == expected
    talk = lines_of(done.stderr)
    assert len(talk) == 2, done.stderr  # nothing of Ray's
    assert talk[0].startswith("failed: image 'in/broken.png' | ")
    assert talk[1].startswith("20 restored, 1 failed in ")
    assert [level(name) for name in expected] == [*range(20)]
    assert files("out") == [".maxim-run.jsonl", *(f"{k:02}.png" for k in range(20))]
    Path("in/broken.png").unlink()
    # A record is that of an ordinary run: it leaves all of them alone.
    assert "0 restored, 20 finished before" in command("run", *arguments).stderr
    # What a worker warns of is shown here, once.
    again = command("run", "bundle", "in/00.png", "-o", "x.png", "--ray", "local", "-vv", HOME=home)
    assert again.returncode == 0 and "'in/00.png': " in again.stderr, again.stderr


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_and_stdout_stays_data(place: Path, every_processor: None):
    """Ray prints what it lost, unless a switch of its own is set that may go away."""
    for k in range(300):
        picture(f"in/{k:03}.png", k % 250, (600, 400))
    with Popen(["bundle", "in", "-o", "out", "--resume", *LOCAL], place) as process:
        wait_for_results(process)
        (first, *_) = [p for p in psutil.process_iter(["cmdline"]) if is_worker_of(process, p)]
        assert first.nice() < 15  # as Ray has it, other processes would have all processors
        first.kill()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert sorted(lines_of(out)) == [f"out/{k:03}.png" for k in range(300)]
    assert err.count("was lost; what it was restoring is restored again") == 1
    assert len(lines_of(err)) == 2, err
    assert len(Path("out/.maxim-run.jsonl").read_text().splitlines()) == 300


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_finishes_what_is_in_the_network(place: Path, every_processor: None, name: str):
    for k in range(400):
        picture(f"in/{k:03}.png", k % 250, (600, 400))
    process = Popen(["bundle", "in", "-o", "out", "--resume", *LOCAL], place)
    wait_for_results(process)
    nodes = [p for p in psutil.Process(process.pid).children(recursive=True) if p.is_running()]
    # As a terminal does: to all processes of the group.
    os.killpg(process.pid, getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name), err
    results = sorted(Path("out").glob("*.png"))
    assert 3 < len(results) < 400
    assert sorted(lines_of(out)) == [str(path) for path in results]
    assert len(Path("out/.maxim-run.jsonl").read_text().splitlines()) == len(results)
    assert "interrupted: finishing the current image" in err and len(lines_of(err)) == 3, err
    assert not psutil.wait_procs(nodes, timeout=10)[1]
    assert not [path for path in Path("out").iterdir() if path.suffix == ".partial"]


def on_two_nodes(step: str, folder: Path, note: Callable[[str, object], None]) -> dict[str, object]:
    if shutil.which("unshare") is None or os.geteuid():
        pytest.skip("needs root for a network namespace")
    script = f"ip link set lo up && exec '{sys.executable}' ray_nodes.py {step} '{folder}'"
    done = subprocess.run(
        ["unshare", "-n", "bash", "-c", script],
        cwd=TESTS / "endurance",
        env={**environment(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    note(step, told)
    return told


@pytest.mark.extended
def test_actor_node_and_command_are_killed(tmp_path: Path, every_processor: None, record_property):
    write_identity_bundle(tmp_path / "bundle")
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(0)
    for k in range(41):
        noise = random.integers(0, 256, (1500, 2000, 3), np.uint8)  # slow to read and write
        Image.fromarray(noise).save(tmp_path / f"in/{k:02}.png", compress_level=1)
    told = on_two_nodes("faults", tmp_path, record_property)
    assert (told["code"], told["failed"]) == (0, [])
    assert told["results"] == told["recorded"] == told["files"] == 41
    assert (told["recorded_twice"], told["restored_twice"], told["left_over"]) == (0, 0, [])
    assert told["warnings"] >= 2


@pytest.mark.extended
def test_pixels_do_not_travel(tmp_path: Path, every_processor: None, record_property):
    write_identity_bundle(tmp_path / "bundle")
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (500, 800, 3), np.uint8)
    large = Image.fromarray(np.tile(noise, (10, 10, 1)))
    for k in range(6):
        large.save(tmp_path / f"in/{k}.jpg", quality=90)
    told = on_two_nodes("store", tmp_path, record_property)
    assert told == {"code": 0, "most_mib": 0, "results": 6}


def test_usage_is_not_reported_unless_the_user_has_said_so():
    script = (
        "import os; from maxim_deploy._optional import require; require('ray', 'ray');"
        "print(os.environ['RAY_USAGE_STATS_ENABLED'])"
    )
    plain = {k: v for k, v in os.environ.items() if k != "RAY_USAGE_STATS_ENABLED"}
    for chosen, expected in ({}, "0"), ({"RAY_USAGE_STATS_ENABLED": "1"}, "1"):
        env = {**plain, "PYTHONPATH": str(ROOT), **chosen}
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def test_the_example_of_a_cluster_is_one():
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "deploy/ray-cluster.yaml").read_text())
    validate_config(prepare_config(config))
