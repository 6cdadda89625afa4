"""`deploy/slurm-array.sh` under a real Slurm on the loopback address, with a task requeued.

Needs Debian's slurm-wlm and munge: apt install slurm-wlm munge.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from cli.running import INVERTING, ROOT, TESTS
from inverter import level, picture

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
COUNT = 40

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=1
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(
        any(shutil.which(one, path=SEARCH) is None for one in PROGRAMS),
        reason="apt install slurm-wlm munge",
    ),
    pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="slurmd needs root"),
]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A controller and a node, whose configuration is in the environment."""
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setenv("PATH", SEARCH)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    text = CONFIGURATION.format(folder=folder, ports=_free_ports(2))
    (folder / "slurm.conf").write_text(text)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    munge = [f"--{x}={folder}/munge.{y}" for x, y in
             (("key-file", "key"), ("socket", "socket"), ("log-file", "log"), ("pid-file", "pid"),
              ("seed-file", "seed"))]  # fmt: skip
    with ExitStack() as running:
        for command in (
            ["munged", "--foreground", "--force", *munge],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D", "-N", "localhost"],
        ):
            log = running.enter_context((folder / f"{command[0]}.out").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            running.callback(_end, process)
            time.sleep(1)
        _wait_for("idle", lambda: _said("sinfo", "-h", "-o", "%T"), folder)
        yield folder


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _wait_for(text: str, look: object, folder: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while text not in (said := look()):  # type: ignore[operator]
        logs = [path.read_text(errors="replace")[-2000:] for path in folder.glob("*.out")]
        assert time.monotonic() < until, (said, *logs)
        time.sleep(0.2)


def test_an_array_with_a_task_requeued(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(COUNT):
        picture(f"in/{number % 3}/{number}.png", number)
    # A network that inverts, and takes its time.
    slowly = INVERTING.format(
        tests=str(TESTS), body="import time; inverter.on_call = lambda _: time.sleep(0.5)"
    )
    (tmp_path / "slowly.py").write_text(slowly)
    program = tmp_path / "bin/maxim-run"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {tmp_path}/slowly.py "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    script = str(ROOT / "deploy/slurm-array.sh")
    array = ["sbatch", "--parsable", "--array=0-3", "--cpus-per-task=1", "--mem=500"]
    job = _said(*array, script, "bundle", "in", "out").strip()
    assert job.isdigit(), job
    _wait_for("R", lambda: _said("squeue", "-h", "-o", "%t", "-j", f"{job}_1"), slurm)
    time.sleep(3)
    assert _said("scontrol", "requeue", f"{job}_1") == ""
    gone = "nothing runs"
    _wait_for(gone, lambda: _said("squeue", "-h", "-j", job).strip() or gone, slurm, 400)
    made = {int(path.stem): level(path) for path in Path("out").rglob("[0-9]*.png")}
    logs = {path.name: path.read_text() for path in tmp_path.glob("maxim-run.*.log")}
    assert made == {number: 255 - number for number in range(COUNT)}, logs
    assert len(logs) == 4
    assert "finished before" in logs[f"maxim-run.{job}_1.log"], logs
    records = {path.name for path in Path("out").rglob(".maxim-run*")}
    assert records == {f".maxim-run.{k}-of-4.jsonl" for k in range(4)}
