"""The memory that a container's limit leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from maxim_deploy.machine import cgroup, memory
from maxim_deploy.machine.cgroup import available_in_group
from maxim_deploy.machine.memory import available_bytes

GIB = 2**30


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "_MOUNT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroup, "_MEMBERSHIP", tmp_path / "membership")
    return tmp_path / "cgroup"


def member(mount: Path, *lines: str) -> None:
    (mount.parent / "membership").write_text("".join(f"{line}\n" for line in lines))


def group(folder: Path, limit: object, used: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\nactive_file 5\n")


def test_a_limit_less_what_is_used_and_cannot_be_taken_back(mount: Path) -> None:
    member(mount, "0::/")
    group(mount, 6 * GIB, 2 * GIB, GIB)
    assert available_in_group() == 5 * GIB


def test_the_tightest_of_the_groups_around_counts(mount: Path) -> None:
    member(mount, "0::/kube/pod/container")
    group(mount / "kube/pod/container", "max", GIB)
    group(mount / "kube/pod", 4 * GIB, 3 * GIB)
    group(mount / "kube", 64 * GIB, 3 * GIB)
    assert available_in_group() == GIB
    group(mount / "kube/pod", 4 * GIB, 5 * GIB)
    assert available_in_group() == 0


def test_version_1(mount: Path) -> None:
    member(mount, "5:cpu,cpuacct:/other", "4:memory:/docker/abc")
    folder = mount / "memory" / "docker" / "abc"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{6 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    (folder / "memory.stat").write_text("total_inactive_file 10\n")
    assert available_in_group() == 5 * GIB + 10


def test_no_limit_and_no_groups(mount: Path) -> None:
    assert available_in_group() is None
    member(mount, "0::/")
    assert available_in_group() is None
    group(mount, "max", GIB)
    assert available_in_group() is None


def test_available_is_the_less_of_system_and_container(monkeypatch: pytest.MonkeyPatch) -> None:
    if available_bytes() is None:
        pytest.skip("this system does not tell")
    monkeypatch.setattr(memory, "available_in_group", lambda: 1000)
    assert available_bytes() == 1000
    monkeypatch.setattr(memory, "available_in_group", lambda: 2**60)
    assert 1000 < (available_bytes() or 0) < 2**60
