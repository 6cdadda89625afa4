"""Fixtures that several test folders share."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

# Many tests import ONNX Runtime themselves, which would report them to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

PROCESSORS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
"""What this process may run on before it is pinned."""

LONGEST = ("S-1", "S-2", "S-3")
"""How the names of groups end that export a whole variant."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--extended", action="store_true", help="run the tests marked `extended` as well"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes processors of its own.

    Libraries start a thread per processor that they see. Those of two test processes would spin on
    each other's: the same tests then take twice the processor time.
    """
    worker = getattr(config, "workerinput", None)
    if worker is not None and PROCESSORS:
        number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        own = sorted(PROCESSORS)[number::count]
        os.sched_setaffinity(0, own or PROCESSORS)


@pytest.hookimpl(wrapper=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    if not config.getoption("--extended"):
        for item in items:
            if item.get_closest_marker("extended"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; pass --extended"))

    if hasattr(config, "workerinput"):
        _share_out(items)
    yield


def _share_out(items: list[pytest.Item]) -> None:
    """Among several test processes: a group of tests stays in one, and long groups come first.

    The tests of a module are a group, for they share fixtures, unless they name another. The groups
    of a whole variant take minutes each. They share nothing, while others wait for each other to
    export the demo model.
    """
    groups: dict[pytest.Item, str] = {}
    slow: Counter[str] = Counter()
    for item in items:
        if (marker := item.get_closest_marker("xdist_group")) is None:
            module = ".".join(item.path.with_suffix("").parts[-2:])
            item.add_marker(pytest.mark.xdist_group(module))
            groups[item] = module
        else:
            groups[item] = marker.args[0]
        slow[groups[item]] += item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: (not groups[item].endswith(LONGEST), -slow[groups[item]]))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def record_property(
    record_property: Callable[[str, object], None],
) -> Callable[[str, object], None]:
    """As pytest's, for values of NumPy as well: they go from one process of tests to another."""
    return lambda name, value: record_property(name, json.loads(json.dumps(value, default=float)))


@pytest.fixture
def every_processor() -> Iterator[None]:
    """For what needs more processors than this test process is pinned to."""
    with unpinned():
        yield


@contextlib.contextmanager
def unpinned() -> Iterator[None]:
    if not PROCESSORS:  # this system pins nothing
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, PROCESSORS)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@pytest.fixture(scope="session")
def kept_traces(pytestconfig: pytest.Config) -> Iterator[None]:
    """Networks are traced once, not in each run; see `traces`."""
    import traces

    with pytest.MonkeyPatch.context() as patch:
        assert pytestconfig.cache is not None
        patch.setenv(traces.FOLDER, str(pytestconfig.cache.mkdir("traces")))
        patch.setattr("torch.onnx.export", traces.kept_or_traced)
        yield


@pytest.fixture(scope="session")
def demo_bundle(
    tmp_path_factory: pytest.TempPathFactory, kept_traces: None, request: pytest.FixtureRequest
) -> Path:
    """The demo model, exported once for the whole run. Not to be modified: copy it first."""
    from maxim_deploy.checkpoints import open_model
    from maxim_deploy.export import export_bundle

    shared = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        shared = shared.parent  # of all processes of this run
    folder = shared / "bundles" / "demo-denoise"
    # What a run takes depends on its threads: it is measured as a user's export does.
    with FileLock(shared / "demo-denoise.lock"), unpinned():
        export_bundle(open_model("demo-denoise"), folder)  # leaves alone what is there
    return folder


@pytest.fixture(scope="session")
def demo_engine(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with an engine of TensorRT for RTX for 256x256. Not to be modified."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'maxim-deploy[rtx]'")
    from maxim_deploy.engines.store import add_engine
    from maxim_deploy.spec.engine_settings import engine_settings_from

    folder = shutil.copytree(demo_bundle, tmp_path_factory.mktemp("engine") / "demo-denoise")
    add_engine(folder, engine_settings_from({"library": "tensorrt-rtx", "profiles": ["256x256"]}))
    return folder


@pytest.fixture
def at_home(demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the bundle and the photographs that examples name."""
    from PIL import Image

    from maxim_deploy.runtime import registry

    shutil.copytree(demo_bundle, tmp_path / "build" / "demo")
    (tmp_path / "photos").mkdir()
    for name in ("photos/a.jpg", "photo.jpg"):
        Image.new("RGB", (64, 48), (80, 90, 100)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})
    return tmp_path


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A network that only inverts, in place of what bundles hold."""
    from inverter import Inverter

    from maxim_deploy import runtime

    inverter = Inverter()
    monkeypatch.setattr(runtime, "load", inverter.load)
    return inverter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, so that tests use relative names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
