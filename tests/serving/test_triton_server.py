"""Repositories on a real Triton, the server of `nvidia-pytriton`, and its clients.

The server has the python backend alone. The environments are made once, in the cache of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.commands import command
from serving.triton_server import NUMPY_2, ROOT, SERVER, Server, environment, triton

from maxim_deploy.imaging.files import read_image, write_image
from maxim_deploy.serving.triton.options import ModelOptions
from maxim_deploy.serving.triton.writing import add_to_repository

TASKS = Path(__file__).with_name("triton_tasks.py")
LIMIT = 450_000_000
"""Bytes that the process of the model "small" may take: a picture of 20 megapixels is too large."""

pytestmark = [
    pytest.mark.extended,
    pytest.mark.skipif(sys.platform != "linux", reason="the server is for Linux"),
]


@pytest.fixture(scope="module")
def environments(pytestconfig: pytest.Config) -> tuple[Path, Path]:
    """(of the server, with NumPy 1; another one, with NumPy 2)."""
    kept = pytestconfig.cache
    assert kept is not None
    folder = kept.mkdir("triton")
    return environment(folder / "numpy-1", SERVER), environment(folder / "numpy-2", NUMPY_2)


@pytest.fixture(scope="module")
def all_processors() -> Iterator[None]:
    """For a server, which outlasts a test: this process may be pinned to some."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield
    os.sched_setaffinity(0, own)


@pytest.fixture(scope="module")
def server(
    environments: tuple[Path, Path],
    demo_bundle: Path,
    all_processors: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """With the models "demo-denoise", the same with NumPy 2, and one of little memory."""
    folder = tmp_path_factory.mktemp("triton")
    repository = folder / "models"
    with_numpy_2 = str(environments[1])
    for name, options in {
        "demo-denoise": {},
        "numpy-2": {"environment": with_numpy_2},
        "small": {"max_memory": LIMIT},
    }.items():
        add_to_repository(demo_bundle, repository, ModelOptions(name=name, **options))
    with triton(environments[0], repository, folder) as running:
        yield running


def asked(server: Server, task: str, model: str, bundle: Path, *more: object) -> dict[str, Any]:
    """What a task has printed."""
    done = server.run(TASKS, task, server.url, server.grpc_url, model, bundle, *more)
    assert done.returncode == 0, done.stderr + server.log.read_text("utf-8", "replace")[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("model, numpy", [("demo-denoise", "1"), ("numpy-2", "2")])
def test_results_are_those_of_the_restorer(
    server: Server, demo_bundle: Path, record_property, model: str, numpy: str
) -> None:
    found = asked(server, "equal", model, demo_bundle)
    record_property("equal", found)
    assert len(found["sizes"]) == 8 and len(found["differences"]) == 4
    assert all(len(way) == 8 and max(way) <= 1 for way in found["differences"].values())


def test_the_log_has_no_traceback(server: Server) -> None:
    assert "Traceback" not in server.log.read_text("utf-8", "replace")


@pytest.mark.parametrize("model", ["demo-denoise", "numpy-2"])
def test_mixed_requests_share_executions(
    server: Server, demo_bundle: Path, record_property, model: str
) -> None:
    found = [asked(server, "mixed", model, demo_bundle) for _ in range(3)]
    record_property("mixed", found)
    # The middle one: which requests are there when an execution ends is a matter of chance.
    assert sorted(one["executions"] for one in found)[1] <= 6
    assert all(one["apart"] <= 1 for one in found)


def test_time_of_one_caller(server: Server, demo_bundle: Path, record_property) -> None:
    found = asked(server, "latency", "demo-denoise", demo_bundle, 256, 25)
    record_property("latency", {**found, "load": os.getloadavg()})
    assert found["ratio_http"] <= 1.10 and found["ratio_grpc"] <= 1.10, found


def test_pictures_per_second_of_8_callers(server: Server, demo_bundle: Path, record_property):
    # Rounds of 4 s were up to a quarter apart on a virtual machine with busy neighbours.
    found = asked(server, "throughput", "demo-denoise", demo_bundle, 256, 4, 25)
    record_property("throughput", {**found, "load": os.getloadavg()})
    assert found["ratio"] >= 0.95, found


class TestExample:
    """`deploy/triton/client.py`, as the guide says to use it."""

    @pytest.mark.parametrize("way", [[], ["--url", "GRPC"], ["--shared-memory"]])
    def test_it_restores(self, server: Server, demo_bundle: Path, tmp_path: Path, way) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (48, 70, 3), np.uint8)
        write_image(tmp_path / "in.png", picture)
        way = [server.grpc_url if word == "GRPC" else word for word in way]
        url = [] if "--url" in way else ["--url", server.url]
        done = server.run(
            ROOT / "deploy" / "triton" / "client.py", tmp_path / "in.png", tmp_path / "out.png",
            "--model", "demo-denoise", *way, *url,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        from maxim_deploy import load

        with load(demo_bundle) as restorer:
            expected = restorer(picture).astype(int)
        assert np.abs(read_image(tmp_path / "out.png").rgb - expected).max() <= 1

    def test_it_says_why_not(self, server: Server, tmp_path: Path) -> None:
        write_image(tmp_path / "in.png", np.zeros((4000, 5000, 3), np.uint8))
        done = server.run(
            ROOT / "deploy" / "triton" / "client.py", tmp_path / "in.png", tmp_path / "out.png",
            "--model", "small", "--url", server.url,
        )  # fmt: skip
        assert done.returncode == 1 and "image of 4000x5000 | even tiles of" in done.stderr
        assert not (tmp_path / "out.png").exists()


def request(shape: list[int], kind: str = "UINT8", size: int | None = None) -> dict[str, Any]:
    """Body and headers of a request with zeros, in the binary form."""
    data = bytes(int(np.prod(shape)) if size is None else size)
    image = {"name": "image", "datatype": kind, "shape": shape}
    head = {"inputs": [{**image, "parameters": {"binary_data_size": len(data)}}]}
    text = json.dumps(head).encode()
    return {"body": text + data, "Inference-Header-Content-Length": str(len(text))}


class TestBadInputs:
    @pytest.mark.parametrize(
        "shape, text",
        [
            ([1, 0, 5, 3], "input 'image' of 1x0x5x3 | it has no pixels | expected uint8"),
            ([1, 5, 0, 3], "input 'image' of 1x5x0x3 | it has no pixels | expected uint8"),
            ([1, 4000, 5000, 3], "image of 4000x5000 | even tiles of"),
        ],
    )
    @pytest.mark.parametrize("model", ["small"])
    def test_our_reasons(self, server: Server, model: str, shape, text: str) -> None:
        status, answer = server.post(f"/v2/models/{model}/infer", **request(shape))
        assert status == 400 and text in json.loads(answer)["error"]

    @pytest.mark.parametrize(
        "sent, text",
        [
            (request([1, 5, 5, 4]), "unexpected shape for input 'image'"),
            (request([5, 5, 3]), "unexpected shape for input 'image'"),
            (request([9, 5, 5, 3]), "batch-size must be <= 8"),
            (request([1, 5, 5, 3], "FP32", 300), "data-type is 'FP32', but model"),
            (request([1, 5, 5, 3], size=74), "byte size"),
            ({"body": b'{"inputs": []}'}, "expected 1 inputs but got 0"),
        ],
    )
    def test_reasons_of_the_server(self, server: Server, sent, text: str) -> None:
        status, answer = server.post("/v2/models/demo-denoise/infer", **sent)
        assert status == 400 and text in json.loads(answer)["error"]

    def test_garbage_reaches_no_model(self, server: Server) -> None:
        """Triton 24.10 says 500 to it, by itself."""
        status, answer = server.post("/v2/models/demo-denoise/infer", b"{")
        assert status in (400, 500) and "failed to parse" in json.loads(answer)["error"]

    def test_others_go_on(self, server: Server, demo_bundle: Path) -> None:
        assert asked(server, "one", "small", demo_bundle, 64)["apart"] <= 1


def checked(server: Server, bundle: Path, model: str) -> subprocess.CompletedProcess[str]:
    return command(
        "main", "triton", bundle, "--check", server.url, "--model", model, "--size", "64x64"
    )


def test_a_check_finds_a_killed_process(server: Server, demo_bundle: Path, record_property) -> None:
    assert checked(server, demo_bundle, "demo-denoise").returncode == 0
    before = set(server.stubs())
    server.post("/v2/repository/models/demo-denoise/unload")
    while len(left := set(server.stubs())) == len(before):
        time.sleep(0.1)
    status, _ = server.post("/v2/repository/models/demo-denoise/load")
    assert status == 200
    (ours,) = set(server.stubs()) - left
    os.kill(ours, signal.SIGKILL)
    time.sleep(1)
    healthy = ["/v2/health/live", "/v2/health/ready", "/v2/models/demo-denoise/ready"]
    assert [server.status_of(path) for path in healthy] == [200, 200, 200]
    done = checked(server, demo_bundle, "demo-denoise")
    record_property("killed", done.stderr)
    assert done.returncode == 1 and "unloaded and loaded" in done.stderr
    # The other models are not affected, and this one works again after it is loaded again.
    assert checked(server, demo_bundle, "small").returncode == 0
    server.post("/v2/repository/models/demo-denoise/unload")
    assert server.post("/v2/repository/models/demo-denoise/load")[0] == 200
    assert checked(server, demo_bundle, "demo-denoise").returncode == 0


def test_a_new_version_is_loaded(
    environments, demo_bundle: Path, tmp_path: Path, all_processors: None
) -> None:
    repository = tmp_path / "models"
    add_to_repository(demo_bundle, repository, ModelOptions(name="m"))
    with triton(environments[0], repository, tmp_path) as server:
        (repository / "m" / "1" / "model.py").write_text("# gone")
        assert add_to_repository(demo_bundle, repository, ModelOptions(name="m")).version == 2
        assert server.post("/v2/repository/models/m/load")[0] == 200
        assert server.status_of("/v2/models/m/versions/2/ready") == 200
        assert checked(server, demo_bundle, "m").returncode == 0


def test_several_instances(
    environments, demo_bundle: Path, tmp_path: Path, all_processors: None
) -> None:
    repository = tmp_path / "models"
    add_to_repository(demo_bundle, repository, ModelOptions(name="m", instances=2))
    with triton(environments[0], repository, tmp_path) as server:
        assert len(server.stubs()) == 2
        found = asked(server, "mixed", "m", demo_bundle)
        assert found["apart"] <= 1


def test_a_bundle_that_cannot_be_loaded_says_so(
    environments, demo_bundle: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    model = add_to_repository(demo_bundle, repository, ModelOptions(name="m")).folder
    (model / "1" / "bundle" / "fp32.weights").write_bytes(b"damaged")
    with (
        pytest.raises(AssertionError, match="has changed since the export"),
        triton(environments[0], repository, tmp_path),
    ):
        pass


def test_a_request_in_flight_is_answered_after_sigterm(
    environments, demo_bundle: Path, tmp_path: Path, all_processors: None, record_property
) -> None:
    repository = tmp_path / "models"
    add_to_repository(demo_bundle, repository, ModelOptions(name="m"))
    with triton(environments[0], repository, tmp_path) as server:
        arguments = [TASKS, "one", server.url, server.grpc_url, "m", demo_bundle, 1536]
        client = subprocess.Popen(
            [server.python, *map(str, arguments)],
            env={**os.environ, **server.variables, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert client.stderr is not None
        while "sending" not in client.stderr.readline():
            assert client.poll() is None
        time.sleep(0.7)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        out, err = client.communicate()
        waited = time.monotonic() - began
        assert client.returncode == 0, err
        record_property("sigterm", {"apart": json.loads(out)["apart"], "seconds_after": waited})
        assert json.loads(out)["apart"] <= 1 and waited > 0.3
        assert server.process.wait(60) == 0
