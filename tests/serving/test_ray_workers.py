"""`maxim-run --ray` with a stand-in for Ray: results, records, lost workers, mistakes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli.running import maxim_run
from click.testing import Result
from inverter import Inverter, files, level, picture
from serving.fake_ray import FakeRay

import maxim_deploy
from maxim_deploy.imaging.video import VideoEncoding
from maxim_deploy.jobs import record
from maxim_deploy.jobs.job import ImageJob
from maxim_deploy.runtime.info import result_settings
from maxim_deploy.serving import ray_cluster, ray_crew, ray_signals, ray_worker, ray_workers
from maxim_deploy.serving.ray_cluster import WorkerNeeds
from maxim_deploy.serving.ray_tasks import MOST_LOSSES
from maxim_deploy.serving.ray_worker import FileWorker, WorkerSettings
from maxim_deploy.serving.ray_workers import RayWorkers

RAY = ("--ray", "auto", "--workers", "2")
COUNT = 12


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, network: Inverter) -> FakeRay:
    """In place of Ray, with the stand-in for the network in its workers."""
    fake = FakeRay()
    for module in (ray_cluster, ray_signals, ray_workers):
        monkeypatch.setattr(module, "require", lambda *_: fake)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    # Its handlers would get what this process logs.
    monkeypatch.setattr(ray_worker, "MessageQueue", lambda _: SimpleNamespace(taken=list))
    network.info.settings = result_settings(Path("bundle"), {})
    return fake


@pytest.fixture
def pictures(folder: Path) -> list[str]:
    return [str(picture(f"in/{k:02}.png", k)) for k in range(COUNT)]


def run(*args: str) -> Result:
    return maxim_run("in", "-o", "out", *RAY, *args)


def levels(name: str) -> list[int]:
    return [level(path) for path in sorted(Path(name).glob("*.png"))]


INVERTED = [255 - k for k in range(COUNT)]


def test_results_are_those_of_an_ordinary_run(pictures, ray: FakeRay, network: Inverter):
    result = run("--compare")
    assert result.exit_code == 0, result.stderr
    assert sorted(result.stdout.split()) == [f"out/{k:02}.png" for k in range(COUNT)]
    assert f"{COUNT} restored in" in result.stderr
    ordinary = maxim_run("in", "-o", "ordinary", "--compare")
    assert files("out") == files("ordinary")
    for name in files("out"):
        assert Path("out", name).read_bytes() == Path("ordinary", name).read_bytes()
    assert sorted(result.stdout.split()) == [
        line.replace("ordinary", "out") for line in ordinary.stdout.split()
    ]


def test_json_has_the_same_keys(pictures, ray: FakeRay):
    here = json.loads(maxim_run("in/00.png", "-o", "a.png", "--json").stdout)
    there = json.loads(maxim_run("in/00.png", "-o", "a.png", *RAY, "--json").stdout)
    times = {"seconds": 0, "network_seconds": 0}
    assert {**here, **times} == {**there, **times}


def test_the_record_is_that_of_an_ordinary_run(pictures, ray: FakeRay, network: Inverter):
    assert run("--resume").exit_code == 0
    lines = sorted(Path("out", record.NAME).read_text().splitlines())
    assert "0 restored, 12 finished before" in maxim_run("in", "-o", "out", "--resume").stderr
    Path("out", record.NAME).unlink()
    assert maxim_run("in", "-o", "out", "--resume").exit_code == 0
    assert sorted(Path("out", record.NAME).read_text().splitlines()) == lines


def test_what_is_finished_needs_no_cluster(pictures, ray: FakeRay, network: Inverter):
    maxim_run("in", "-o", "out", "--resume")
    assert "0 restored, 12 finished before" in run("--resume").stderr
    assert ray.addresses == []
    Path("out/03.png").unlink()
    assert "1 restored, 11 finished before" in run("--resume").stderr


def test_a_failure_is_said_as_in_an_ordinary_run(pictures, ray: FakeRay):
    Path("in/03.png").write_bytes(b"no picture")
    there, here = run(), maxim_run("in", "-o", "ordinary")
    failures = [
        [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
        for result in (there, here)
    ]
    assert failures[0] == failures[1] and len(failures[0]) == 1
    assert (there.exit_code, len(there.stdout.split())) == (1, COUNT - 1)


def test_a_lost_worker_costs_nothing(pictures, ray: FakeRay, network: Inverter):
    network.on_call = lambda call: call == 4 and ray.die_here()
    result = run("--resume")
    assert result.exit_code == 0, result.stderr
    assert levels("out") == INVERTED
    assert len(ray.actors) == 3
    assert ray.exported == [FileWorker]  # Ray waits for the head node at each
    assert result.stderr.count("was lost; what it was restoring is restored again") == 1
    assert len(Path("out", record.NAME).read_text().splitlines()) == COUNT


def test_a_picture_that_kills_its_workers_fails_and_the_others_do_not(
    pictures, ray: FakeRay, network: Inverter
):
    network.on_image = lambda image: image[0, 0, 0] == 5 and ray.die_here()
    result = run()
    assert result.exit_code == 1
    assert levels("out") == [value for value in INVERTED if value != 250]
    (failure,) = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert f"image 'in/05.png' | {MOST_LOSSES + 1} workers were lost while they" in failure
    assert files("out") == [f"{k:02}.png" for k in range(COUNT) if k != 5]  # and no partial file


def test_ctrl_c_finishes_what_is_in_the_network(pictures, ray: FakeRay, network: Inverter):
    began, go_on = threading.Event(), threading.Event()

    def on_call(call: int) -> None:
        if call == 3:
            began.set()
            go_on.wait(10)

    network.on_call = on_call
    cancel = threading.Event()

    def follow(progress: maxim_deploy.FileProgress) -> None:
        if progress.result and began.wait(10):
            cancel.set()
            threading.Timer(0.5, go_on.set).start()

    workers = RayWorkers("bundle", workers=1)
    results = maxim_deploy.restore_files(
        workers, "in", "out", progress=follow, cancel=cancel, resume=True
    )
    names = [str(result.output) for result in results]
    assert 2 <= len(names) < COUNT
    assert sorted(names) == [f"out/{name}" for name in files("out") if name != record.NAME]
    assert len(Path("out", record.NAME).read_text().splitlines()) == len(names)
    assert ray.shutdowns == 1


def test_no_worker_takes_the_place_of_one_that_is_lost_at_the_end(
    pictures, ray: FakeRay, network: Inverter, monkeypatch, caplog
):
    """A signal that ends the run may end workers before this process looks at it."""
    monkeypatch.setattr(ray_crew, "PAUSE_S", 30.0)  # it sleeps until the worker is lost
    cancel = threading.Event()

    def on_call(_: int) -> None:
        time.sleep(0.3)
        cancel.set()
        ray.die_here()

    network.on_call = on_call
    workers = RayWorkers("bundle", workers=1)
    assert list(maxim_deploy.restore_files(workers, "in/00.png", "o.png", cancel=cancel)) == []
    assert len(ray.actors) == 1
    assert "was lost" not in caplog.text


def test_a_lost_head_node_ends_the_run(pictures, ray: FakeRay, network: Inverter):
    """Ray would wait for it for a minute, deaf to signals, and then end this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ray.gcs_address = f"127.0.0.1:{server.getsockname()[1]}"
    network.on_call = lambda call: call == 4 and ray.die_here()
    result = run("--resume")
    assert result.exit_code == 1
    assert f"Ray at {ray.gcs_address!r} | the head node of the cluster is lost: " in result.stderr
    assert all(actor.is_dead for actor in ray.actors) and len(ray.actors) == 2
    assert len(levels("out")) < COUNT


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no such signals")
def test_only_a_cluster_that_is_started_here_hears_no_signal(pictures, ray: FakeRay, monkeypatch):
    blocked, init = [], ray.init

    def noting(address: str, **options: object) -> None:
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        init(address, **options)

    monkeypatch.setattr(ray, "init", noting)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert maxim_run("in", "-o", "out", "--ray", "local").exit_code == 0
    monkeypatch.setattr(ray_cluster, "_is_in_a_cluster", lambda: True)
    assert run().exit_code == 0
    assert blocked == [before | {signal.SIGTERM, signal.SIGHUP}, before]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no such signals")
def test_a_signal_while_ray_starts_gets_to_our_handler():
    """In a process of its own, which a signal without a handler would end."""
    script = """
import signal, sys, threading
from types import SimpleNamespace
from maxim_deploy.serving import ray_cluster

def init(*_, **__):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

got = []
signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
ray_cluster.require = lambda *_: SimpleNamespace()
ray_cluster._connect(SimpleNamespace(init=init), "local")
print(got == [signal.SIGTERM])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", (done.returncode, done.stderr)


def test_closing_early_leaves_nothing_half(pictures, ray: FakeRay, network: Inverter):
    results = maxim_deploy.restore_files(RayWorkers("bundle", workers=2), "in", "out")
    first = next(results)
    results.close()
    assert first.output is not None and ray.shutdowns == 1
    assert all(actor.is_dead for actor in ray.actors)


def test_signal_handlers_stay(pictures, ray: FakeRay, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    init = ray.init

    def replacing(*args: str, **options: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        init(*args, **options)

    monkeypatch.setattr(ray, "init", replacing)
    assert run().exit_code == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_bundle_that_no_worker_can_load(pictures, ray: FakeRay, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise maxim_deploy.BundleError("bundle 'bundle' | is broken")

    monkeypatch.setattr(maxim_deploy.runtime, "load", fail)
    result = run()
    assert result.exit_code == 1
    assert [x for x in result.stderr.splitlines() if "WARNING" not in x] == [
        "Error: bundle 'bundle' | is broken"
    ]


def test_a_node_that_cannot_load_the_bundle_is_left_out(
    pictures, ray: FakeRay, network, monkeypatch
):
    load, lock, calls = network.load, threading.Lock(), []

    def once(*args: object, **options: object) -> Inverter:
        with lock:
            calls.append(args)
            if len(calls) == 1:
                raise maxim_deploy.BundleError("bundle 'bundle' | is broken")
        return load(*args, **options)

    monkeypatch.setattr(maxim_deploy.runtime, "load", once)
    result = run()
    assert result.exit_code == 0 and levels("out") == INVERTED
    assert result.stderr.count("no worker on ") == 1


def test_another_bundle_on_a_node(pictures, ray: FakeRay, network: Inverter):
    network.info.settings["bundle"] = "0123"
    result = run()
    assert result.exit_code == 1
    assert "found bundle 0123 | expected bundle None" in result.stderr


def test_a_folder_that_a_node_does_not_see(pictures, ray: FakeRay, monkeypatch):
    monkeypatch.setattr(ray_worker, "PATIENCE_S", 0.0)
    monkeypatch.setattr(ray_workers, "Partial", lambda path: SimpleNamespace(
        path=path, discard=lambda: None))  # fmt: skip
    result = run()
    assert result.exit_code == 2
    assert "output folder 'out' | is not the same on every node" in result.stderr


def test_workers_that_die_while_they_load(pictures, ray: FakeRay, monkeypatch):
    monkeypatch.setattr(maxim_deploy.runtime, "load", lambda *_, **__: ray.die_here())
    result = run()
    assert result.exit_code == 1
    assert "died before they had loaded the network | The actor died." in result.stderr


def test_a_bug_in_a_worker_ends_the_run(pictures, ray: FakeRay, network: Inverter):
    def bug(_: np.ndarray) -> None:
        raise ZeroDivisionError("a bug")

    network.on_image = bug
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(maxim_deploy.restore_files(RayWorkers("bundle"), "in", "out"))
    assert ray.shutdowns == 1


def test_a_record_that_cannot_be_written_is_a_failure(pictures, ray: FakeRay, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "append_lines", full)
    result = run("--resume")
    assert result.exit_code == 1
    assert result.stderr.count("No space left on device") == COUNT


def test_what_workers_wait_for_is_said(pictures, ray: FakeRay, monkeypatch, caplog):
    """A cluster without room may grow."""
    ray.room = ray.free = 0
    monkeypatch.setattr(ray_cluster, "_is_in_a_cluster", lambda: True)
    monkeypatch.setattr(ray_crew, "SILENCE_S", 0.0)
    cancel = threading.Event()
    threading.Timer(1, cancel.set).start()
    workers = RayWorkers("bundle", workers=2)
    assert list(maxim_deploy.restore_files(workers, "in", "out", cancel=cancel)) == []
    assert "0 of 2 workers are ready, and 1 are needed to begin" in caplog.text
    assert "each takes 1 CPU of one node, and the cluster has 0 of 0 CPU free" in caplog.text


def test_no_room_on_this_machine(pictures, ray: FakeRay):
    ray.room = ray.free = 0
    result = run()
    assert result.exit_code == 2
    assert "Ray on this machine | has no room for a worker | each takes 1 CPU" in result.stderr


def test_which_cluster(pictures, ray: FakeRay, monkeypatch):
    assert "no Ray cluster of this machine was found: this machine alone" in run().stderr
    maxim_run("in", "-o", "out", "--ray", "local")
    assert ray.addresses == ["local", "local"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        result = maxim_run("in", "-o", "out", "--ray", address)
        assert (result.exit_code, ray.addresses[2:]) == (1, [address])
        assert f"Ray at {address!r} | cannot be reached: no cluster | if the" in result.stderr
        ray.found = address
        assert (run().exit_code, ray.addresses[3:]) == (0, ["auto"])
    # Of a cluster that was killed, the file with the address stays.
    assert (run().exit_code, ray.addresses[4:]) == (0, ["local"])
    # Ray itself would try for five minutes.
    assert maxim_run("in", "-o", "out", "--ray", address).exit_code == 1
    monkeypatch.setenv("RAY_ADDRESS", address)
    result = run()
    assert (result.exit_code, ray.addresses[5:]) == (1, [])
    assert f"Ray at {address!r} | cannot be reached: [Errno 111]" in result.stderr
    assert maxim_run("in", "-o", "out", "--ray", "local").exit_code == 0
    assert os.environ["RAY_ADDRESS"] == address


def test_at_least_so_many_workers(pictures, ray: FakeRay, network: Inverter):
    assert maxim_run("in", "-o", "out", "--ray", "auto", "--workers", "2:5").exit_code == 0
    assert len(ray.actors) == 5
    assert len(network.loaded) == 2  # there is room for two
    # A single file needs no second worker, though two are asked for.
    assert maxim_run("in/00.png", "-o", "b.png", "--ray", "auto", "--workers", "2:5").exit_code == 0


def test_what_workers_are_loaded_with(pictures, ray: FakeRay, network: Inverter, monkeypatch):
    monkeypatch.setattr(ray_worker, "usable_processors", lambda: 4)
    monkeypatch.setattr(ray_worker, "available_bytes", lambda: 8000)
    run("--threads", "2", "--precision", "fp32", "--tile", "256")
    bundle, options = network.loaded[0]
    assert bundle == Path("bundle")
    assert options == {
        "backend": "auto",
        "precision": "fp32",
        "tile": 256,
        "lanes": 1,
        "threads": 2,
        "max_memory": 4000,
    }
    assert {actor.asked["num_cpus"] for actor in ray.actors} == {2}
    assert ray_worker.os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--ray", "auto", "--shard", "0/2"), "--shard | does not go together with --ray"),
        (("--ray", "auto", "--lanes", "2"), "--lanes | does not go together with --ray"),
        (("--ray", "auto", "--device", "1"), "--device | does not go together with --ray"),
        (("--ray", "auto", "--plan"), "--plan | does not go together with --ray"),
        (("--ray", "auto", "--status"), "--status | does not go together with --ray"),
        (("--workers", "2"), "--workers | is an option of --ray | pass --ray auto as well"),
        (("--gpus-per-worker", "1"), "--gpus-per-worker | is an option of --ray"),
        (("--ray", "auto", "--workers", "3:2"), "MIN is more than MAX"),
        (("--ray", "auto", "--workers", "0"), "expected N or MIN:MAX, such as 8 or 2:16"),
        (("--ray", "auto", "--workers", "2:"), "expected N or MIN:MAX"),
        (("--ray", "auto", "--gpus-per-worker", "2"), "is not in the range 0<=x<=1"),
        (("--ray", "ray://head:10001"), "run the command on a node of the cluster with 'auto'"),
        (
            ("--ray", "auto", "--backend", "tensorrt"),
            "runs on a GPU, and workers have none | pass --gpus-per-worker 1",
        ),
        (
            ("--ray", "auto", "--backend", "onnxruntime", "--gpus-per-worker", "1"),
            "runs on the CPU | omit --gpus-per-worker",
        ),
    ],
)
def test_options_that_mean_nothing_together(pictures, ray: FakeRay, args, text: str):
    result = maxim_run("in", "-o", "out", *args)
    assert result.exit_code == 2 and text in " ".join(result.stderr.split()), result.stderr
    assert ray.addresses == []


@pytest.mark.parametrize(
    ("cpus", "gpus", "resources", "count"),
    [
        (1, 0, {"CPU": 4.0}, 4),
        (3, 0, {"CPU": 4.0}, 1),
        (1, 1, {"CPU": 4.0}, 0),
        (1, 1, {"CPU": 4.0, "GPU": 2.0}, 2),
        (1, 0.4, {"CPU": 16.0, "GPU": 2.0}, 4),
        (1, 0.5, {"CPU": 3.0, "GPU": 2.0}, 3),
    ],
)
def test_how_many_workers_a_node_has_room_for(cpus, gpus, resources, count):
    assert WorkerNeeds(cpus, gpus).fit_into(resources) == count


def test_a_worker_reads_only_what_fits_beside_what_runs(
    folder: Path, ray: FakeRay, network: Inverter
):
    """Of three files at a time one is inside while there is no memory."""
    network.room = -1
    inside, most = [], []
    network.on_call = lambda _: most.append(len(worker._inside))
    witness = folder / "witness"
    witness.touch()
    worker = FileWorker(
        WorkerSettings(
            bundle=Path("bundle"),
            load_options={},
            rounding="nearest",
            self_ensemble=False,
            folder=None,
            witness=witness,
            identity=network.info.settings,
            most=1,
            gpus=0,
            log_level=30,
        )
    )
    assert worker.open().problem is None
    jobs = [ImageJob(picture(f"{k}.png"), Path(f"out{k}.png")) for k in range(3)]
    threads = [threading.Thread(target=worker.restore, args=(job, False)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1] and not inside and worker._inside == {}
    assert [level(f"out{k}.png") for k in range(3)] == [245] * 3


def test_videos_travel_with_their_encoding(folder: Path, ray: FakeRay, network: Inverter):
    pytest.importorskip("av", reason="pip install 'maxim-deploy[video]'")
    from clips import clip

    clip("in.mp4")
    encoding = VideoEncoding("ffv1")
    workers = RayWorkers("bundle")
    (result,) = maxim_deploy.restore_files(workers, "in.mp4", "out.mkv", encoding=encoding)
    assert (result.status, result.error) == ("restored", None)
    assert result.frames and Path("out.mkv").exists()
