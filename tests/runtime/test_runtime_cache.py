"""Kernels that TensorRT for RTX compiles, kept for the next process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from engines.bundles import entry_of

pytest.importorskip("cuda.bindings.runtime", reason="pip install 'maxim-deploy[rtx]'")

from runtime import fake_tensorrt
from runtime.engine_runs import on_device, opened, picture

from maxim_deploy.runtime import tensorrt_settings
from maxim_deploy.runtime.cuda import open_cuda
from maxim_deploy.spec.bundle import Bundle


def compiled(trt, bundle: Bundle, content: bytes) -> bytes:
    """What the cache held on loading; `content` is compiled and kept."""
    backend = opened(bundle, "tensorrt-rtx")
    cache = trt.engines[-1].configs[0].cache
    before, cache.content = cache.content, content or cache.content
    backend.close()
    return before


def test_a_runtime_cache_is_kept(trt, bundle, caplog) -> None:
    assert compiled(trt, bundle, b"kernels") == b""
    (path,) = (bundle.path / "engines" / "runtime-cache").iterdir()
    assert path.name == "aaaaaaaaaaaa.10.14.1.nvidia-l4.cache"
    written = path.stat().st_mtime_ns
    assert compiled(trt, bundle, b"") == b"kernels"
    assert path.stat().st_mtime_ns == written  # nothing new, nothing written
    path.write_bytes(path.read_bytes()[:-1])
    assert compiled(trt, bundle, b"refused") == b""
    assert "is damaged (its hash differs)" in caplog.text
    assert compiled(trt, bundle, b"") == b"" and "refused by the library" in caplog.text


def test_a_bundle_that_cannot_be_written_to(trt, bundle, caplog) -> None:
    entry_of(bundle)
    (bundle.path / "engines" / "runtime-cache").write_text("a file, not a folder")
    assert compiled(trt, bundle, b"kernels") == b""
    assert "the runtime cache cannot be kept" in caplog.text


def kept(bundle: Bundle) -> bytes:
    """The kernels in the file; nothing if there is none."""
    paths = list((bundle.path / "engines" / "runtime-cache").glob("*.cache"))
    return paths[0].read_bytes().partition(b"\n")[2] if paths else b""


@pytest.fixture
def instant(monkeypatch) -> None:
    """Saving takes no time."""
    monkeypatch.setattr(tensorrt_settings.time, "monotonic", lambda: 0.0)


def test_kernels_are_kept_as_they_are_compiled(trt, bundle, instant) -> None:
    """The library compiles in the background: the first runs need not find what they started."""
    backend = opened(bundle, "tensorrt-rtx")
    cache, seen = trt.engines[0].configs[0].cache, []
    for run in range(1, 9):
        cache.content = b"kernels of run %d" % run
        backend.run(picture())
        seen.append(int(kept(bundle).split()[-1]))
    assert seen == [1, 2, 2, 4, 4, 4, 4, 8]
    cache.content = b"kernels of run 9"
    backend.run(picture(64, 96))  # a shape that is new
    assert kept(bundle).endswith(b"run 9")
    backend.close()


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """Time that passes only while a cache is serialized, a second each time."""
    now = SimpleNamespace(seconds=100.0)
    serialize = fake_tensorrt.FakeCache.serialize

    def slow(cache: fake_tensorrt.FakeCache) -> bytes:
        now.seconds += 1
        return serialize(cache)

    monkeypatch.setattr(fake_tensorrt.FakeCache, "serialize", slow)
    monkeypatch.setattr(tensorrt_settings.time, "monotonic", lambda: now.seconds)
    return now


def test_little_time_goes_into_saving(trt, bundle, clock) -> None:
    backend = opened(bundle, "tensorrt-rtx")
    cache = trt.engines[0].configs[0].cache
    for width, passed, saved in ((64, 0, 64), (65, 8, 64), (66, 1, 66), (67, 8, 66)):
        clock.seconds += passed
        cache.content = b"kernels of width %d" % width
        backend.run(picture(64, width))
        assert int(kept(bundle).split()[-1]) == saved
    backend.close()
    assert kept(bundle).endswith(b" 67")  # the last time does not wait


def test_a_cache_without_kernels_is_not_kept(trt, bundle, monkeypatch) -> None:
    monkeypatch.setattr(fake_tensorrt.FakeCache, "empty", b"a header and no kernels")
    backend = opened(bundle, "tensorrt-rtx")
    backend.run(picture())
    backend.close()
    assert not (bundle.path / "engines" / "runtime-cache").exists()


def test_nobody_waits_for_a_cache_that_is_saved(trt, bundle, monkeypatch, instant) -> None:
    backend, held = opened(bundle, "tensorrt-rtx"), []
    pool = backend._shared.pool
    save = tensorrt_settings.RuntimeCache.save
    monkeypatch.setattr(
        tensorrt_settings.RuntimeCache,
        "save",
        lambda cache: (held.append(pool._lock.locked()), save(cache)),
    )
    backend.run(picture())
    backend.run_on_device(on_device(open_cuda(), picture()))
    assert held == [False, False]
    backend.close()


def test_a_library_that_takes_no_cache(trt, bundle, monkeypatch, caplog) -> None:
    monkeypatch.setattr(fake_tensorrt.FakeConfig, "takes_cache", False)
    assert compiled(trt, bundle, b"kernels") == b""
    assert "the library refuses a runtime cache" in caplog.text and kept(bundle) == b""


ENDING = """
import os, signal, sys
from pathlib import Path
import pytest
from runtime.engine_runs import fake_cuda, fake_library, opened, picture
from maxim_deploy.spec.bundle import Bundle

patch = pytest.MonkeyPatch()
trt = fake_library(patch, fake_cuda(patch))
backend = opened(Bundle.open(Path(sys.argv[1])), "tensorrt-rtx")
cache = trt.engines[0].configs[0].cache
cache.content = b"early"
backend.run(picture())
cache.content = b"late"
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ending, kernels", [("killed", b"early"), ("not closed", b"late")])
def test_a_process_that_ends_without_close(bundle, ending: str, kernels: bytes) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", ENDING, str(bundle.path), ending]
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if ending == "killed" else 0), done.stderr
    assert kept(bundle) == kernels and not done.stderr


def test_a_cache_of_somebody_elses_is_not_read(trt, bundle, tmp_path, monkeypatch, caplog) -> None:
    """It comes with a bundle, whole and with a right hash, and would be run on the GPU."""
    assert compiled(trt, bundle, b"kernels") == b""
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path / "another-user"))
    assert compiled(trt, bundle, b"") == b""
    assert "was written by another user; set aside" in caplog.text
    key = tmp_path / "another-user" / "key"
    assert key.stat().st_mode & 0o077 == 0 and len(key.read_bytes()) == 32


def test_a_cache_of_an_older_version_is_not_read(trt, bundle) -> None:
    assert compiled(trt, bundle, b"kernels") == b""
    (path,) = (bundle.path / "engines" / "runtime-cache").iterdir()
    header, _, payload = path.read_bytes().partition(b"\n")
    facts = {key: fact for key, fact in json.loads(header).items() if key != "mac"}
    path.write_bytes(json.dumps(facts).encode() + b"\n" + payload)
    assert compiled(trt, bundle, b"") == b""


def test_a_cache_that_is_a_link_is_neither_read_nor_written(trt, bundle, tmp_path, caplog) -> None:
    assert compiled(trt, bundle, b"kernels") == b""
    (path,) = (bundle.path / "engines" / "runtime-cache").iterdir()
    (target := tmp_path / "target").write_bytes(before := path.read_bytes())
    path.unlink()
    path.symlink_to(target)
    assert compiled(trt, bundle, b"others") == b""
    assert "is a symbolic link" in caplog.text and target.read_bytes() == before


def test_without_a_key_there_is_no_cache(trt, bundle, tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path / "file"))
    backend = opened(bundle, "tensorrt-rtx")
    backend.close()
    assert "the runtime cache cannot be kept" in caplog.text and kept(bundle) == b""
