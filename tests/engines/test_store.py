"""Engines in a bundle, built by TensorRT for RTX itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from engines.bundles import settings, tiny_graph, write_bundle
from hypothesis import given
from hypothesis import strategies as st

import maxim_deploy
from maxim_deploy.engines import engine_file, store
from maxim_deploy.engines.engine_file import BuildOptions, EngineJob
from maxim_deploy.engines.identity import differences, identity_of, ingredients
from maxim_deploy.engines.inspection import inspect_bundle
from maxim_deploy.engines.store import add_engine
from maxim_deploy.errors import BundleError, EngineError, MissingDependencyError, UsageError
from maxim_deploy.graph.tensorrt_parse import parse_with_tensorrt_rtx
from maxim_deploy.machine.file_locks import file_lock
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.engine_settings import NOT_IN_IDENTITY, EngineSettings
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.profiles import profiles_from_specs

ROOT = Path(maxim_deploy.__file__).parents[1]


def engines(bundle: Path) -> list[Path]:
    return sorted((bundle / "engines").glob("*.engine"))


def test_an_engine_is_built_listed_and_found_again(trt, bundle: Path) -> None:
    said, shown = [], []
    options = BuildOptions(progress=said.append, step_progress=shown.append)
    entry, is_new = add_engine(bundle, settings("64x64:96x128:256x256", "96x128"), options)
    path = bundle / entry.file
    assert is_new and engines(bundle) == [path]
    assert said == [
        "profiles 64x64:96x128:256x256 and 96x128 overlap; the tighter one runs the shared sizes",
        "parsing the graph",
        "building the engine",
    ]
    assert entry.bytes == path.stat().st_size > 10_000
    assert (entry.library, entry.version) == ("tensorrt-rtx", trt.__version__)
    assert (entry.precision, entry.io, entry.targets) == ("fp16", "image", ("8.0+",))
    assert entry.memory["activation_bytes"] > 256 * 256 and entry.memory["weights_bytes"] > 0
    assert entry.layers and entry.optimization_level == 3 and entry.notes == []
    assert entry.built.built_on["gpu"] is None or entry.built.built_on["cuda"]
    assert shown[0].phases == ("Building engine",) and any(len(p.phases) > 2 for p in shown)
    assert all(0 <= p.done <= p.total for p in shown)
    assert Bundle.open(bundle).manifest.engines == [entry]

    layers = json.loads(path.with_suffix(".layers.json").read_text())
    assert len(layers) == entry.layers
    assert any("stages/0/Conv_0" in layer["nodes"] for layer in layers) or any(
        "stages/0/Conv_0" in layer["name"] for layer in layers
    )
    assert "Total Activation Memory" in path.with_suffix(".log").read_text()

    before = path.stat().st_mtime_ns
    again, is_new = add_engine(bundle, settings("64x64:96x128:256x256", "96x128"))
    assert not is_new and again == entry and path.stat().st_mtime_ns == before


def test_equal_bundles_with_equal_engines_differ_in_the_engine_alone(trt, bundle: Path) -> None:
    """Two builds may differ in their bytes, and by them alone the manifests do."""
    other = shutil.copytree(bundle, bundle.with_name("other"))
    entries = [add_engine(folder, settings("64x64"))[0] for folder in (bundle, other)]
    texts = [
        (folder / "manifest.json").read_text().replace(entry.sha256, "...")
        for folder, entry in zip((bundle, other), entries, strict=True)
    ]
    sizes = [f'"bytes": {entry.bytes}' for entry in entries]
    assert texts[0].replace(sizes[0], "") == texts[1].replace(sizes[1], "")
    assert entries[0].built.created != entries[1].built.created


def test_what_only_the_runtime_reads_needs_no_build(trt, bundle: Path) -> None:
    first, _ = add_engine(bundle, settings("64x64"))
    second, is_new = add_engine(bundle, settings("64x64", cuda_graphs="off"))
    assert not is_new and second.file == first.file
    assert second.runtime == {"cuda_graphs": "off", "specialization": "lazy", "runtime_cache": True}
    assert Bundle.open(bundle).manifest.engines == [second]


def test_other_settings_and_graphs_are_other_engines(trt, bundle: Path) -> None:
    said: list[str] = []
    options = BuildOptions(progress=said.append)
    add_engine(bundle, settings("64x64"))
    add_engine(bundle, settings("64x64", targets=["8.6", "8.9"]), options)
    assert "targets: [] there, ['8.6', '8.9'] now" in said[0] and "is another engine" in said[0]
    add_engine(bundle, settings("96x96"))
    assert len(engines(bundle)) == 3

    shutil.rmtree(bundle / "engines")
    fresh = write_bundle(bundle.with_name("fresh"), tiny_graph(scale=2.0))
    old = Bundle.open(bundle).manifest.engines[0]
    merged = replace(Bundle.open(fresh).manifest, engines=[old])
    Bundle(fresh, merged).write()
    _entry, is_new = add_engine(fresh, settings("64x64"), BuildOptions(progress=said.append))
    assert is_new and any(f"{old.file} is another engine (graph: " in line for line in said)


CHANGES = {
    "profiles": profiles_from_specs(["65x64"], "image"),
    "library": "tensorrt",
    "precision": "bf16",
    "io": "tensor",
    "targets": ("8.6",),
    "optimization_level": 4,
    "aux_streams": 2,
    "workspace": 2**30,
    "strip_weights": True,
    "tf32": True,
    "profiling_verbosity": "none",
    "cuda_graphs": "off",
    "specialization": "eager",
    "runtime_cache": False,
}


def made_of(bundle: Path, asked: EngineSettings, version: str = "1", gpu: str | None = None):
    opened = Bundle.open(bundle)
    return ingredients(opened, opened.manifest.graphs[0], asked, version, gpu)


@given(names=st.sets(st.sampled_from(sorted(CHANGES)), min_size=1))
def test_each_change_changes_the_identity(tmp_path_factory, names: set[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / "identity"
    if not folder.exists():
        write_bundle(folder, tiny_graph())
    if {"library", "targets"} <= names:
        names = names - {"targets"}  # full TensorRT has none
    before = made_of(folder, settings("64x64"))
    after = made_of(folder, replace(settings("64x64"), **{name: CHANGES[name] for name in names}))
    counted = names - set(NOT_IN_IDENTITY)
    assert (identity_of(before) != identity_of(after)) == bool(counted)
    assert {line.split(":")[0] for line in differences(before, after)} == counted


def test_what_else_is_in_the_identity(bundle: Path, tmp_path: Path) -> None:
    base = made_of(bundle, settings("64x64"))
    others = [
        made_of(bundle, settings("64x64"), version="2"),
        made_of(bundle, settings("64x64"), gpu="NVIDIA L4, 8.9"),
        {**base, "system": "windows-amd64"},
        {**base, "graph": "0" * 64},
        {**base, "weights": "0" * 64},
    ]
    assert [[d.split(":")[0] for d in differences(base, other)] for other in others] == [
        ["version"], ["gpu"], ["system"], ["graph"], ["weights"],
    ]  # fmt: skip
    assert len({identity_of(one) for one in [base, *others]}) == 6
    assert identity_of(base) == identity_of(dict(reversed(base.items())))


def test_an_engine_that_was_tampered_with_is_built_again(trt, bundle: Path) -> None:
    entry, _ = add_engine(bundle, settings("64x64"))
    path = bundle / entry.file
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    with pytest.raises(BundleError, match="has changed since it was built: SHA-256 "):
        Bundle.open(bundle).checked_engine(entry)
    (engine,) = inspect_bundle(bundle)["engines"]
    assert not engine["runs_here"] and "has changed since it was built" in engine["reasons"][0]
    said: list[str] = []
    again, is_new = add_engine(bundle, settings("64x64"), BuildOptions(progress=said.append))
    assert is_new and "has changed" in said[0] and Bundle.open(bundle).checked_engine(again)
    assert len(Bundle.open(bundle).manifest.engines) == 1

    path.unlink()
    assert add_engine(bundle, settings("64x64"))[1]


@pytest.mark.parametrize("file", ["../x.engine", "engines/../../x.engine", "fp16.weights", "/x"])
def test_an_engine_lies_in_its_folder(bundle: Path, file: str) -> None:
    from spec.samples import entry

    (bundle.parent / "x.engine").write_bytes(b"")
    with pytest.raises(BundleError, match="lists no engine"):
        Bundle.open(bundle).checked_engine(entry(file, "photo"))


@pytest.mark.parametrize("name", ["fp16.weights", "fp16.image.onnx"])
def test_changed_files_never_reach_the_library(trt, bundle: Path, monkeypatch, name: str) -> None:
    (bundle / name).write_bytes((bundle / name).read_bytes() + b"\0")
    monkeypatch.setattr(engine_file, "parse_graph", lambda *_: pytest.fail("the library saw it"))
    with pytest.raises(BundleError, match=f"{name}.*has changed since the export"):
        add_engine(bundle, settings("64x64"))


def test_a_full_disk(trt, bundle: Path, monkeypatch) -> None:
    def full(path: Path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine_file, "atomic_file", full)
    with pytest.raises(EngineError, match=r"cannot write the engine into .*No space left"):
        add_engine(bundle, settings("64x64"))
    assert engines(bundle) == [] and Bundle.open(bundle).manifest.engines == []


@pytest.mark.parametrize(
    "asked, error, message",
    [
        ({"targets": ["9.0"]}, UsageError, r"compute capability 9\.0; choose from: 7\.5, 8\.0"),
        ({"precision": "fp32"}, BundleError, "has no fp32 graph of the 'image' form; it has: fp16"),
        ({"workspace": "1kB"}, EngineError, "workspace limit.*what to do: a layer needs more"),
        ({"targets": ["current"]}, EngineError, "there is no NVIDIA GPU 0"),
    ],
)
def test_refusals(trt, bundle: Path, monkeypatch, asked, error, message) -> None:
    monkeypatch.setattr(store, "find_gpu", lambda: None)
    with pytest.raises(error, match=message):
        add_engine(bundle, settings("64x64", **asked))
    assert engines(bundle) == []


def test_a_failed_build_leaves_its_log(trt, bundle: Path) -> None:
    with pytest.raises(EngineError):
        add_engine(bundle, settings("64x64", workspace="1kB"))
    log = (bundle / "engines" / "failed.log").read_text()
    assert "ERROR: " in log and "raise the workspace limit" in log


def test_no_timing_cache_for_rtx(trt, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a timing cache has no effect"):
        add_engine(bundle, settings("64x64"), BuildOptions(timing_cache=tmp_path / "x"))


def test_without_the_library(bundle: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'maxim-deploy\[rtx\]'") as info:
        add_engine(bundle, settings("64x64"))
    assert info.value.exit_code == 2


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    prelude = (
        "import sys; from pathlib import Path; from engines.bundles import settings; "
        "from maxim_deploy.engines import engine_file\n"
        "from maxim_deploy.engines.engine_file import BuildOptions\n"
        "from maxim_deploy.engines.store import add_engine\n"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", prelude + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def test_two_processes_build_one_engine_once(trt, bundle: Path) -> None:
    script = (
        "_, new = add_engine(Path(sys.argv[1]), settings('64x64'), "
        "BuildOptions(progress=lambda line: print(line, flush=True))); print(new)"
    )
    both = [start(script, bundle) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert sorted(lines[-1] for lines in outputs) == ["False", "True"]
    assert sum("building the engine" in lines for lines in outputs) == 1
    assert len(engines(bundle)) == 1 and len(Bundle.open(bundle).manifest.engines) == 1


def test_a_killed_build_leaves_nothing_and_blocks_nobody(trt, bundle: Path) -> None:
    script = (
        "def write(job, parsed, built):\n"
        "    with engine_file.atomic_file(job.folder / 'x.engine') as file:\n"
        "        file.write(built.plan[:1000]); file.flush(); print('half', flush=True)\n"
        "        import time; time.sleep(600)\n"
        "engine_file._write = write\n"
        "add_engine(Path(sys.argv[1]), settings('64x64'))"
    )
    process = start(script, bundle)
    assert process.stdout is not None and process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    assert engines(bundle) == [] and Bundle.open(bundle).manifest.engines == []
    assert add_engine(bundle, settings("64x64"))[1]


def test_what_dead_processes_left_goes_with_the_next_build(trt, bundle: Path) -> None:
    left = [".0123456789abcdef.lock", ".manifest.lock", ".x.0123456789ab.partial"]
    (bundle / "engines").mkdir()
    for name in left:
        (bundle / "engines" / name).touch()
    (bundle / ".manifest.json.0123456789ab.partial").touch()
    held = bundle / "engines" / ".fedcba9876543210.lock"
    with file_lock(held):
        for is_new in (True, False):
            assert add_engine(bundle, settings("64x64"))[1] == is_new
            hidden = [path for path in bundle.rglob("*") if path.name.startswith(".")]
            assert hidden == [held]
    assert not held.exists()


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_bundle_replaced_under_a_build_gets_no_engine(
    trt, bundle: Path, monkeypatch: pytest.MonkeyPatch, has_folder: bool
) -> None:
    def make_and_replace(job: EngineJob) -> EngineEntry:
        entry = engine_file.make_engine(job)
        shutil.rmtree(bundle)
        write_bundle(bundle, tiny_graph(scale=2.0))
        if has_folder:
            (bundle / "engines").mkdir()
            (bundle / entry.file).write_bytes(b"of the other bundle")
        return entry

    monkeypatch.setattr(store, "make_engine", make_and_replace)
    with pytest.raises(
        EngineError, match=r"\.engine' \| the bundle was replaced \| the bundle's graph changed"
    ):
        add_engine(bundle, settings("64x64"))
    assert Bundle.open(bundle).manifest.engines == []


@pytest.mark.slow
def test_ctrl_c_ends_a_build_at_once(trt, demo_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "demo"
    shutil.copytree(demo_bundle, bundle)
    # A job in the background ignores SIGINT, and what it starts does too.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from maxim_deploy.cli.main import export; export()"
    )
    arguments = ["-o", bundle, "--engine", "tensorrt-rtx", "--profile", "photo"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while process.stderr.readline() != "building the engine\n":
        pass
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == "Interrupted\n"
    assert engines(bundle) == []


@pytest.mark.slow
def test_an_application_may_exit_under_an_interrupted_build(trt, demo_bundle: Path, tmp_path: Path):
    """It used to crash, or abort, when the builder's threads met a dying interpreter."""
    bundle = tmp_path / "demo"
    shutil.copytree(demo_bundle, bundle)
    script = (
        "import signal, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "interrupt = lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)\n"
        "def say(step):\n"
        "    if step == 'building the engine': threading.Timer(0.5, interrupt).start()\n"
        "try:\n"
        "    add_engine(Path(sys.argv[1]), settings('photo'), BuildOptions(progress=say))\n"
        "except KeyboardInterrupt:\n"
        "    print([t.name for t in threading.enumerate() if t.is_alive()], flush=True)\n"
    )
    process = start(script, bundle)
    output, _ = process.communicate(timeout=120)
    assert "engine build" in output  # it still runs, and the exit waits for it
    assert (process.returncode, engines(bundle)) == (0, [])


@pytest.mark.slow
def test_the_demo_model(trt, demo_bundle: Path, tmp_path: Path) -> None:
    """A real network: as parsed it is the exported one, islands and all; and it builds."""
    bundle = tmp_path / "demo"
    shutil.copytree(demo_bundle, bundle)
    entry, _ = add_engine(bundle, settings("64x64:256x256:512x512", "300x451"))
    parsed = parse_with_tensorrt_rtx(bundle / "fp16.image.onnx")
    assert parsed is not None
    assert entry.parsed_layers == parsed.network.num_layers > (entry.layers or 0) > 100
    # 237 seen; a Resize that TensorRT does not fuse, or layers on several streams, cost over 500.
    assert 0 < entry.memory["activation_bytes"] < 300 * 512 * 512
    layers = json.loads((bundle / entry.file).with_suffix(".layers.json").read_text())
    heavy = [layer for layer in layers if layer["kind"] in ("gemm", "correlation")]
    assert heavy and all(layer["types"] == ["float16"] for layer in heavy)
    tensor, _ = add_engine(bundle, settings("64x64:128x128:256x256", io="tensor"))
    assert tensor.file != entry.file and tensor.io == "tensor"


S2 = """
from maxim_deploy.machine.memory import peak_resident_bytes
from maxim_deploy.benchmarks.artifacts import random_checkpoint
from maxim_deploy.export import BundleSettings, export_bundle
from maxim_deploy.spec.architecture import architecture_of
if sys.argv[2] == "export":
    checkpoint = random_checkpoint(architecture_of("S-2"))
    export_bundle(checkpoint, Path(sys.argv[1]), BundleSettings(("fp16",), ("image",)))
else:
    profiles = "256x256:512x512:768x768", "720p", "1080p"
    entry, _ = add_engine(Path(sys.argv[1]), settings(*profiles))
    print(entry.built.build_seconds, peak_resident_bytes(), entry.memory["activation_bytes"])
"""


@pytest.mark.extended
def test_s2_for_three_resolutions(trt, tmp_path: Path, record_property) -> None:
    """Under 5 minutes and 10 GiB on two cores: 68 s and 1.4 GB seen, 2.2 GB for a 1080p frame."""
    assert start(S2, tmp_path / "s2", "export").wait() == 0
    output, _ = start(S2, tmp_path / "s2", "build").communicate()
    seconds, peak, activations = map(float, output.split())
    record_property("s2", {"seconds": seconds, "peak": peak, "activations": activations})
    assert seconds < 300 and peak < 10 * 2**30
    assert activations < 1200 * 1088 * 1920


def test_locks_follow_no_link(trt, bundle: Path, tmp_path: Path) -> None:
    (victim := tmp_path / "victim").write_text("mine")
    (bundle / "engines").mkdir()
    (bundle / "engines" / ".manifest.lock").symlink_to(victim)
    with pytest.raises(EngineError, match=r"cannot write the engine .*manifest\.lock"):
        add_engine(bundle, settings("64x64"))
    assert victim.read_text() == "mine"
