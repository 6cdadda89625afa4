"""The memory that a container's limit leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from maxim_deploy.machine import cgroup, memory
from maxim_deploy.machine.cgroup import available_in_group, processors_in_group
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


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are of Linux")
def test_available_is_the_less_of_system_and_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_in_group", lambda: 1000)
    assert available_bytes() == 1000
    monkeypatch.setattr(memory, "available_in_group", lambda: 2**60)
    assert 1000 < available_bytes() < 2**60


@pytest.mark.parametrize(
    ("quota", "processors"),
    [("150000 100000", 2), ("200000 100000", 2), ("20000 100000", 1), ("max 100000", None)],
)
def test_a_quota_of_processor_time(mount: Path, quota: str, processors: int | None) -> None:
    member(mount, "0::/kube/pod")
    assert processors_in_group() is None
    (mount / "kube" / "pod").mkdir(parents=True)
    (mount / "kube" / "cpu.max").write_text(f"{quota}\n")
    (mount / "kube" / "pod" / "cpu.max").write_text("400000 100000\n")
    assert processors_in_group() == (processors or 4)
    (mount / "kube" / "pod" / "cpu.max").write_text("max 100000\n")
    assert processors_in_group() == processors


@pytest.mark.parametrize(("quota", "processors"), [(250_000, 3), (-1, None)])
def test_a_quota_of_version_1(mount: Path, quota: int, processors: int | None) -> None:
    member(mount, "4:memory:/docker/abc", "5:cpu,cpuacct:/docker/abc", "0::/")
    folder = mount / "cpu" / "docker" / "abc"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert processors_in_group() == processors
