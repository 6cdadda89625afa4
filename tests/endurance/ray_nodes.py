"""Two Ray nodes on this machine, in a network of their own, and what is killed on them.

    unshare -n bash -c 'ip link set lo up; exec python tests/endurance/ray_nodes.py STEP FOLDER'

FOLDER has `bundle` and `in`. Prints one JSON object.

    faults   restores all files while an actor, a node and the command are killed with -9
    store    restores all files, and says how much the object stores held at most
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray

HEAD, SECOND = "127.0.0.1", "127.0.0.2"
ADDRESS = f"{HEAD}:6379"
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
MEBIBYTE = 2**20


class Node:
    """The processes of `ray start`, with one processor."""

    def __init__(self, ip: str, temporary: Path) -> None:
        self.ip = ip
        of_head = ["--head", "--port=6379", f"--temp-dir={temporary}", "--include-dashboard=false"]
        where = of_head if ip == HEAD else [f"--address={ADDRESS}"]
        options = ["--num-cpus=1", "--object-store-memory=400000000"]
        command = [*RAY, "start", "--block", f"--node-ip-address={ip}", *where, *options]
        log = (temporary / f"start-{ip}.log").open("ab")
        self.process = psutil.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """All of its processes at once."""
        for process in [*self.process.children(recursive=True), self.process]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


@contextmanager
def two_nodes() -> Iterator[dict[str, Node]]:
    # A short path: sockets lie below it.
    temporary = Path(f"/tmp/rn{os.getpid()}")
    temporary.mkdir()
    nodes = {HEAD: Node(HEAD, temporary)}
    try:
        wait_for(is_connected, 60)
        nodes[SECOND] = Node(SECOND, temporary)
        wait_for(lambda: sum(node["Alive"] for node in ray.nodes()) == 2, 60)
        yield nodes
    finally:
        ray.shutdown()
        for node in nodes.values():
            node.kill()
        subprocess.run(["rm", "-rf", str(temporary)], check=False)


def is_connected() -> bool:
    """Whether this process takes part in the cluster, to look at it."""
    try:
        socket.create_connection((HEAD, 6379), 1).close()
    except OSError:
        return False
    try:
        ray.init(ADDRESS, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError):
        return False
    return True


def wait_for(happens: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.1)


def actors() -> list[psutil.Process]:
    """The processes of workers that restore files."""
    return [p for p in psutil.process_iter(["name", "cmdline"]) if is_actor(p.info["cmdline"])]


def is_actor(command: list[str] | None) -> bool:
    return bool(command) and command[0].startswith("ray::FileWorker")


class Command:
    """`maxim-run --ray`, and what it has said so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.out, self.err = (folder / f"command.{kind}" for kind in ("out", "err"))
        arguments = ["bundle", "in", "-o", "out", "--ray", ADDRESS, "--json", *options]
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "maxim_deploy", "run", *arguments],
                cwd=folder,
                stdout=out,
                stderr=err,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


def count_results(folder: Path) -> int:
    return len(list((folder / "out").glob("*.png")))


def faults(folder: Path) -> dict[str, Any]:
    total = len(list((folder / "in").iterdir()))
    with two_nodes() as nodes:
        options = ("--resume", "--workers", "2")
        command = Command(folder, *options)
        wait_for(lambda: count_results(folder) >= total // 8, 120)
        actors()[0].kill()
        wait_for(lambda: count_results(folder) >= total // 3, 120)
        nodes[SECOND].kill()
        wait_for(lambda: count_results(folder) >= total // 2, 120)
        nodes[SECOND] = Node(SECOND, Path(f"/tmp/rn{os.getpid()}"))
        wait_for(lambda: count_results(folder) >= 2 * total // 3, 120)
        command.process.kill()
        command.process.wait()
        before = command.results()
        again = Command(folder, *options)
        code = again.process.wait(300)
        results = again.results()[len(before) :]
    lines = (folder / "out" / ".maxim-run.jsonl").read_text().splitlines()
    recorded = [next(iter(json.loads(line)["outputs"])) for line in lines]
    restored = [r["input"] for r in before + results if r["status"] == "restored"]
    return {
        "files": total,
        "code": code,
        "results": count_results(folder),
        "recorded": len(recorded),
        "recorded_twice": len(recorded) - len(set(recorded)),
        "restored_twice": len(restored) - len(set(restored)),
        "left_over": [p.name for p in (folder / "out").iterdir() if p.suffix == ".partial"],
        "warnings": (folder / "command.err").read_text().count("was lost"),
        "failed": [r["error"] for r in results if r["error"]],
    }


def stored_mib() -> int:
    """What the object stores of all nodes hold."""
    free, all_of = ray.available_resources(), ray.cluster_resources()
    kind = "object_store_memory"
    return round((all_of[kind] - free.get(kind, 0)) / MEBIBYTE)


def store(folder: Path) -> dict[str, Any]:
    with two_nodes():
        # It is measured where there is something.
        kept = ray.put(bytes(50 * MEBIBYTE))
        wait_for(lambda: stored_mib() == 50, 30)
        del kept
        wait_for(lambda: stored_mib() == 0, 30)
        command = Command(folder, "--workers", "2")
        most = 0
        while command.process.poll() is None:
            most = max(most, stored_mib())
            time.sleep(0.1)
    return {"code": command.process.returncode, "most_mib": most, "results": count_results(folder)}


if __name__ == "__main__":
    step, folder = sys.argv[1:]
    print(json.dumps({"faults": faults, "store": store}[step](Path(folder))))
