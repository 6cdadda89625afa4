"""A real Triton: environments with the server of `nvidia-pytriton`, and servers that run.

The server's own Python needs NumPy 1, and tritonclient's gRPC an older protobuf than ONNX does. So
both are in virtual environments, which are made once and kept in the cache of the tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

OURS = ["onnxruntime", "platformdirs", "pillow"]
"""What maxim-deploy needs in an environment of the server's; it itself is in PYTHONPATH."""

SERVER = ["nvidia-pytriton==0.7.0", "numpy<2", "tritonclient[all]", *OURS]
NUMPY_2 = ["numpy>=2", *OURS]


def environment(folder: Path, packages: list[str]) -> Path:
    """A virtual environment with these packages, made unless it is there."""
    stamp = folder / "packages.txt"
    wanted = "\n".join(packages)
    with FileLock(f"{folder}.lock"):
        if stamp.exists() and stamp.read_text() == wanted:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *packages], check=True)
        stamp.write_text(wanted)
    return folder


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@dataclass
class Server:
    """A server that is ready."""

    process: subprocess.Popen[bytes]
    log: Path
    http: int
    grpc: int
    variables: dict[str, str]
    python: Path = field(default=Path())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc}"

    def status_of(self, path: str) -> int:
        with (
            contextlib.suppress(urllib.error.URLError),
            urllib.request.urlopen(self.url + path) as answer,
        ):
            return int(answer.status)
        return 0

    def post(self, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, str]:
        """(status, body of the answer)."""
        # Python's own, of a form, crashes Triton 24.10 when the body is large.
        headers["Content-Type"] = "application/octet-stream"
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stubs(self) -> list[int]:
        """Process numbers of the instances."""
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = status.read_text()
                if (
                    "triton_python_b" in text.splitlines()[0]
                    and f"PPid:\t{self.process.pid}\n" in text
                ):
                    found.append(int(status.parent.name))
        return found

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Python of the server's environment, which has both of tritonclient's clients."""
        return subprocess.run(
            [self.python, *map(str, arguments)],
            env={
                **os.environ,
                **self.variables,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            },
            capture_output=True,
            text=True,
            check=False,
        )


@contextlib.contextmanager
def triton(environment: Path, repository: Path, folder: Path, *options: str) -> Iterator[Server]:
    """A server on a repository for the block, all of its models loaded."""
    (site,) = environment.glob("lib/python*/site-packages")
    dist = site / "pytriton" / "tritonserver"
    backends = shutil.copytree(dist / "backends", folder / "backends")
    stub = "triton_python_backend_stub"
    shutil.copy(dist / "python_backend_stubs" / VERSION / stub, backends / "python" / stub)
    libraries = [
        dist / "external_libs",
        site / "nvidia_pytriton.libs",
        sysconfig.get_config_var("LIBDIR"),
    ]
    variables = {
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(environment),
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "PYTHONPATH": str(ROOT),
    }
    http, grpc = free_port(), free_port()
    command = [
        dist / "bin" / "tritonserver", f"--model-repository={repository}",
        f"--backend-directory={backends}", f"--http-port={http}", f"--grpc-port={grpc}",
        "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--allow-metrics=false",
        "--model-control-mode=explicit", "--load-model=*", "--exit-timeout-secs=60", *options,
    ]  # fmt: skip
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=out, stderr=out)
    server = Server(process, log, http, grpc, variables, environment / "bin" / "python")
    try:
        _wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Server) -> None:
    while server.status_of("/v2/health/ready") != 200:
        assert server.process.poll() is None, server.log.read_text("utf-8", "replace")
        time.sleep(0.1)
