"""OpenVINO on the CPU: right, frugal, to be stopped, and silent."""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from machine.children import measure
from runtime.fakes import image_of

import maxim_deploy
from maxim_deploy import BackendError, BundleError, UsageError
from maxim_deploy._files import sha256_of
from maxim_deploy.engines.library_file import LibraryFile
from maxim_deploy.errors import CancelledError, DeadlineError, MissingDependencyError
from maxim_deploy.machine import openvino as library
from maxim_deploy.runtime import openvino_backend, openvino_cache, openvino_shapes
from maxim_deploy.runtime.openvino_backend import MAX_ERROR, OpenVinoCpu
from maxim_deploy.runtime.openvino_shapes import KEPT, CompiledShapes
from maxim_deploy.runtime.restorer import Restorer
from maxim_deploy.runtime.turns import Stop, Turn
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.onnx_resizing import resizes_with_antialias
from maxim_deploy.spec.profiles import Shape

pytestmark = pytest.mark.skipif(  # not `importorskip`: a plain import reports to its maker
    find_spec("openvino") is None, reason="pip install 'maxim-deploy[openvino]'"
)

OURS = "openvino"
TENSOR = "fp32.tensor.onnx"
IMAGE = image_of(64, 64)


@pytest.fixture(scope="module")
def restorer(demo_bundle: Path) -> Iterator[Restorer]:
    with maxim_deploy.load(demo_bundle, backend=OURS) as restorer:
        yield restorer


def backend_of(restorer: Restorer) -> OpenVinoCpu:
    backend = restorer._work.require_open()
    assert isinstance(backend, OpenVinoCpu)
    return backend


def kept_of(restorer: Restorer) -> list[tuple[int, ...]]:
    shapes = backend_of(restorer)._shapes
    assert shapes is not None
    return [dims[2:] for dims in shapes._kept]


@pytest.fixture
def bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(demo_bundle, tmp_path / "bundle")


def changed(folder: Path, change: Callable[..., object]) -> Path:
    """A bundle after `change` of the entry of its graph; files are hashed anew."""
    opened = Bundle.open(folder)
    manifest = opened.manifest
    graphs = [change(one) if one.file == TENSOR else one for one in manifest.graphs]
    files = {
        name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
        for name in manifest.files
    }
    Bundle(folder, replace(manifest, graphs=graphs, files=files)).write()
    return folder


# ------------------------------------------------------------------ results


def test_results_are_those_of_onnx_runtime(demo_bundle: Path, restorer: Restorer) -> None:
    with maxim_deploy.load(demo_bundle, backend="onnxruntime") as other:
        for size in ((64, 64), (100, 70), (128, 192)):
            image = image_of(*size)
            assert np.abs(restorer(image) - other(image)).max() <= MAX_ERROR
    many = restorer.batch([IMAGE, IMAGE, image_of(40, 30)])
    assert [one.shape[:2] for one in many] == [(64, 64), (64, 64), (40, 30)]


def test_info_says_what_it_computes_in_and_how_far_it_is_off(restorer: Restorer) -> None:
    info = restorer.info
    assert (info.backend, info.precision, info.io, info.device) == (OURS, "fp32", "tensor", "cpu")
    assert info.library.startswith("openvino 20")
    (note,) = info.notes
    assert "computes in f32; at 64x64 it differs from the result of the export by" in note


def test_bfloat16_only_where_the_processor_has_it(demo_bundle: Path, restorer: Restorer) -> None:
    if "bf16" not in library.precisions_of(library.openvino().Core()):
        with pytest.raises(BackendError, match="does not support bf16 on.*choose fp32"):
            maxim_deploy.load(demo_bundle, backend=OURS, precision="bf16")
        return
    with maxim_deploy.load(demo_bundle, backend=OURS, precision="bf16") as low:
        assert low.info.precision == "bf16" and "computes in bf16" in low.info.notes[0]
        assert 1e-4 < np.abs(low(IMAGE) - restorer(IMAGE)).max() < 0.05


@pytest.mark.parametrize("found", ["f32", "bf16"])
def test_another_precision_than_asked_for_is_refused(found: str) -> None:
    kind = SimpleNamespace(get_type_name=lambda: found)
    compiled = SimpleNamespace(get_property=lambda _: kind)
    other = "bf16" if found == "f32" else "fp32"
    with pytest.raises(BackendError, match=f"OpenVINO computes in {found}, but"):
        library.check_precision(compiled, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "does not run fp16 here; choose fp32, bf16"),
        ({"device": 1}, "device=1 is not supported by a CPU backend"),
        ({"stream": 5}, "stream=5 is not supported by a CPU backend"),
    ],
)
def test_what_it_cannot_do_is_refused(demo_bundle: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        maxim_deploy.load(demo_bundle, backend=OURS, **options)


# ------------------------------------------------------------------ what it gets wrong


def test_a_result_unlike_that_of_the_export_is_refused(bundle: Path) -> None:
    def shift(entry):
        known = np.frombuffer(entry.measured.known_result, "<f4") + np.float32(1e-4)
        return replace(entry, measured=entry.measured.with_result(known.tobytes()))

    with pytest.raises(BackendError, match=r"differs from .* 0.0001 in fp32 .* 5e-06 at most"):
        maxim_deploy.load(changed(bundle, shift), backend=OURS)


def test_without_a_result_of_the_export_info_says_so(bundle: Path) -> None:
    def forget(entry):
        return replace(entry, measured=replace(entry.measured, result=None))

    with maxim_deploy.load(changed(bundle, forget), backend=OURS) as restorer:
        assert "not compared with ONNX Runtime" in restorer.info.notes[0]


def test_the_literal_form_is_refused_by_its_name(bundle: Path) -> None:
    changed(bundle, lambda entry: replace(entry, form="literal"))
    with pytest.raises(BackendError, match="literal form, which uses antialias"):
        maxim_deploy.load(bundle, backend=OURS)


def graph_with_resize(path: Path, antialias: int) -> Path:
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[N, 3, H, W] image, float[4] s) => '
        '(float[N, 3, H, W] restored) { restored = Resize <mode = "linear", antialias = '
        f"{antialias}> (image, , s) }}"
    )
    onnx.save(graph, path)
    return path


def test_antialias_is_found_in_the_file(demo_bundle: Path, bundle: Path, tmp_path: Path) -> None:
    assert not resizes_with_antialias(demo_bundle / TENSOR)
    assert not resizes_with_antialias(graph_with_resize(tmp_path / "without.onnx", 0))
    (bundle / TENSOR).unlink()
    assert resizes_with_antialias(graph_with_resize(bundle / TENSOR, 1))
    changed(bundle, lambda entry: replace(entry, weights=None))
    with pytest.raises(BackendError, match="uses antialias, which OpenVINO ignores"):
        maxim_deploy.load(bundle, backend=OURS)


def test_another_form_is_refused(bundle: Path) -> None:
    shutil.copy(bundle / "fp32.image.onnx", bundle / TENSOR)
    with pytest.raises(BackendError, match="does not have the 'tensor' form: it has image u8"):
        maxim_deploy.load(changed(bundle, lambda entry: entry), backend=OURS)


def test_a_bundle_without_the_graph_says_what_it_has(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    graphs = [one for one in opened.manifest.graphs if one.file != TENSOR]
    Bundle(bundle, replace(opened.manifest, graphs=graphs)).write()
    with pytest.raises(BundleError, match="no fp32 graph of the 'tensor' form; it has: fp32 image"):
        maxim_deploy.load(bundle, backend=OURS)


# ------------------------------------------------------------------ stopping


class Impatient(Stop):
    """Asks for the end as soon as the run is under way."""

    @contextmanager
    def calling(self, halt: Callable[[], object]) -> Iterator[None]:
        with super().calling(halt):
            self.set(KeyboardInterrupt())
            yield


def test_a_run_can_be_stopped_and_the_next_is_right(restorer: Restorer) -> None:
    backend, image = backend_of(restorer), np.zeros((1, 3, 64, 64), np.float32)
    expected = backend.run(image)
    for stop in (Impatient(), Stop()):
        if not isinstance(stop, Impatient):
            stop.set(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            backend.run(image, Turn(stop=stop))
        assert (backend.run(image) == expected).all()


def test_what_goes_wrong_in_a_run_is_ours(restorer: Restorer) -> None:
    backend = backend_of(restorer)
    with pytest.raises(BackendError, match="OpenVINO cannot compile the network for 1x3x65x64"):
        backend.run(np.zeros((1, 3, 65, 64), np.float32))
    assert isinstance(library.failure("failed", MemoryError()), maxim_deploy.BackendError)
    assert "OutOfMemory" in type(library.failure("failed", RuntimeError("std::bad_alloc"))).__name__


class Gate:
    """Holds the making of forms until it is opened."""

    def __init__(self) -> None:
        self.is_open, self.begun, self.made = threading.Event(), threading.Event(), 0

    def opened(self, plain: Callable[..., object]) -> Callable[..., object]:
        def opened(shapes: CompiledShapes, dims: tuple[int, ...]) -> object:
            self.begun.set()
            assert self.is_open.wait(60)
            self.made += 1
            return plain(shapes, dims)

        return opened


class TestLeavingWhileAFormIsMade:
    """OpenVINO cannot stop compiling, which takes seconds. Callers do not wait for it."""

    @pytest.fixture
    def gate(self, monkeypatch) -> Iterator[Gate]:
        gate = Gate()
        monkeypatch.setattr(CompiledShapes, "_opened", gate.opened(CompiledShapes._opened))
        yield gate
        gate.is_open.set()

    @pytest.fixture
    def ready(self, restorer: Restorer) -> Restorer:
        """With the form for 64x64 alone."""
        backend_of(restorer).release()
        restorer(IMAGE)
        return restorer

    def test_the_restorer_is_free_and_the_form_is_kept(self, ready: Restorer, gate: Gate) -> None:
        expected, other = ready(IMAGE), image_of(64, 128)
        future = ready.submit(other)
        assert gate.begun.wait(60) and future.cancel()
        with pytest.raises(CancelledError):
            future.result(60)
        late = ready.submit(other, timeout=0.05)
        with pytest.raises(DeadlineError):
            late.result(60)
        assert (ready(IMAGE) == expected).all() and gate.made == 0
        gate.is_open.set()
        assert ready(other).shape == other.shape and gate.made == 1

    def test_another_shape_waits_for_it(self, ready: Restorer, gate: Gate) -> None:
        unwanted = ready.submit(image_of(64, 128))
        assert gate.begun.wait(60) and unwanted.cancel()
        future = ready.submit(image_of(128, 64))
        with pytest.raises(TimeoutError):
            future.result(0.2)
        gate.is_open.set()
        assert future.result(60).shape == (128, 64, 3) and gate.made == 2

    def test_so_does_a_run_without_memory_for_both(
        self, ready: Restorer, gate: Gate, monkeypatch
    ) -> None:
        backend = backend_of(ready)
        unwanted = ready.submit(image_of(64, 128))
        assert gate.begun.wait(60) and unwanted.cancel()
        making = backend._memory.making
        assert backend.held_bytes() == making + backend._memory.form + backend._memory.run(64 * 64)
        # It may have nothing yet of what it will take, so the room is without it.
        small = np.zeros((1, 3, 64, 64), np.float32)
        monkeypatch.setattr(openvino_backend, "resident_bytes", lambda: 10**9)
        monkeypatch.setattr(backend, "_max_memory", 10**10)
        kept = backend.held_bytes() - making
        host = openvino_backend.HOST_BYTES_PER_PIXEL * 64 * 64
        assert backend._room(small) == 10**10 - 10**9 + kept - host
        tight = backend._memory.peak(64 * 64) + making - 1
        monkeypatch.setattr(backend, "_room", lambda _: tight)
        future = ready.submit(IMAGE)
        with pytest.raises(TimeoutError):
            future.result(0.2)
        gate.is_open.set()
        assert future.result(60).shape == IMAGE.shape

    def test_a_form_that_cannot_be_made(self, ready: Restorer, gate: Gate) -> None:
        backend, odd = backend_of(ready), np.zeros((1, 3, 65, 64), np.float32)
        stop = Stop()
        stop.set(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            backend.run(odd, Turn(stop=stop))
        gate.is_open.set()
        for _ in range(2):  # it may be the one that was left, and then another
            with pytest.raises(BackendError, match="cannot compile the network for 1x3x65x64"):
                backend.run(odd)
        assert ready(IMAGE).shape == IMAGE.shape

    def test_close_waits_for_it(self, demo_bundle: Path, gate: Gate) -> None:
        gate.is_open.set()
        restorer = maxim_deploy.load(demo_bundle, backend=OURS)
        gate.is_open.clear()
        gate.begun.clear()
        unwanted = restorer.submit(IMAGE)
        assert gate.begun.wait(60) and unwanted.cancel()
        closing = threading.Thread(target=restorer.close)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        gate.is_open.set()
        closing.join(60)
        assert not closing.is_alive()


# ------------------------------------------------------------------ memory


def test_the_last_few_shapes_are_kept(restorer: Restorer) -> None:
    restorer._work.require_open().release()
    assert restorer._work.require_open().held_bytes() == 0
    for k in range(KEPT + 1):
        restorer(image_of(64, 64 * (k + 1)))
    assert kept_of(restorer) == [(64, 64 * (k + 1)) for k in range(1, KEPT + 1)]
    restorer(image_of(64, 128))
    assert kept_of(restorer)[-1] == (64, 128)
    backend = backend_of(restorer)
    form, run = backend._memory.form, backend._memory.run(64 * 128)
    assert backend.held_bytes() == KEPT * form + run
    backend.release()
    assert kept_of(restorer) == []


def test_fewer_shapes_are_kept_in_little_memory(demo_bundle: Path, monkeypatch) -> None:
    with maxim_deploy.load(demo_bundle, backend=OURS, max_memory="4GiB") as restorer:
        backend = backend_of(restorer)
        used = 10**9
        monkeypatch.setattr(
            "maxim_deploy.runtime.openvino_backend.resident_bytes",
            lambda: used + backend.held_bytes(),
        )
        room = backend.bytes_for(Shape(1, 64, 64)) + 10**6
        for forms, kept in ((0, 1), (1, 2)):
            backend._max_memory = used + room + forms * backend._memory.form
            backend.release()
            for width in (64, 128, 64, 128):
                backend.run(np.zeros((1, 3, 64, width), np.float32))
            assert len(kept_of(restorer)) == kept


PEAK = """
import json, sys
import maxim_deploy, numpy
from maxim_deploy.machine.memory import forget_peak, peak_resident_bytes, resident_bytes
image = numpy.random.default_rng(0).random((256, 256, 3), numpy.float32)
with maxim_deploy.load(sys.argv[1], backend="openvino") as restorer:
    planned, before = restorer.plan(256, 256).bytes, resident_bytes()
    forget_peak()
    restorer(image)
    print(json.dumps([planned, peak_resident_bytes() - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.usefixtures("every_processor")
def test_the_peak_is_as_planned(demo_bundle: Path, tmp_path: Path, record_property) -> None:
    """In processes of their own; the second one reads what the first has compiled."""
    for made in ("compiled", "read"):

        def holds(memory: list[int], made: str = made) -> bool:
            planned, taken = memory
            record_property(made, memory)
            return abs(planned / taken - 1) < 0.1

        measure(holds, PEAK, demo_bundle, MAXIM_DEPLOY_CACHE=str(tmp_path))


# ------------------------------------------------------------------ files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


def open_once(bundle: Path) -> np.ndarray:
    with maxim_deploy.load(bundle, backend=OURS) as restorer:
        return restorer(IMAGE)


def test_what_was_compiled_is_read_by_the_next(demo_bundle: Path, cache: Path, monkeypatch) -> None:
    expected = open_once(demo_bundle)
    (file,) = cache.iterdir()
    assert len(file.stem) == 64 and file.suffix == ".blob"
    with monkeypatch.context() as patch:
        patch.setattr(openvino_shapes.CompiledShapes, "_compiled", None)
        assert (open_once(demo_bundle) == expected).all()
    # Other threads are compiled for by themselves.
    with maxim_deploy.load(demo_bundle, backend=OURS, threads=3):
        assert len([*cache.glob("*.blob")]) == 2


def test_a_damaged_file_is_set_aside(demo_bundle: Path, cache: Path, caplog) -> None:
    expected = open_once(demo_bundle)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with caplog.at_level(logging.WARNING):
        assert (open_once(demo_bundle) == expected).all()
    assert "is damaged" in caplog.text
    assert file.read_bytes() == whole or file.exists()
    assert file.with_name(file.name + ".rejected").exists()


def test_a_file_that_openvino_refuses_is_set_aside(demo_bundle: Path, cache: Path, caplog) -> None:
    expected = open_once(demo_bundle)
    (file,) = cache.iterdir()
    header = json.loads(file.read_bytes().partition(b"\n")[0])
    key = (cache.parent / "key").read_bytes()
    facts = ("compiled network", header["library"], header["gpu"])
    LibraryFile(file, *facts, print, key).write(b"no network")
    with caplog.at_level(logging.WARNING):
        assert (open_once(demo_bundle) == expected).all()
    assert "was refused by OpenVINO; set aside" in caplog.text


def test_a_cache_that_cannot_be_written_is_no_error(demo_bundle: Path, cache: Path, caplog) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert open_once(demo_bundle).shape == IMAGE.shape
    assert caplog.text.count("compiled networks cannot be kept") == 1


def test_without_a_key_nothing_is_kept(demo_bundle: Path, cache: Path, monkeypatch) -> None:
    def no_key() -> bytes:
        raise MissingDependencyError("platformdirs is not installed")

    monkeypatch.setattr(openvino_cache, "user_key", no_key)
    assert open_once(demo_bundle).shape == IMAGE.shape and not cache.exists()


def test_the_longest_unused_files_go(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(openvino_cache, "MOST_BYTES", 25)
    for age, name in enumerate(("new", "old", "older")):
        path = tmp_path / f"{name}.blob"
        path.write_bytes(b"x" * 10)
        os.utime(path, (1000 - age, 1000 - age))
    openvino_cache._prune(tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["new", "old"]


# ------------------------------------------------------------------ the process around it


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_its_own(restorer: Restorer) -> None:
    expected = restorer(IMAGE)
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(120)
            os._exit(0 if np.array_equal(restorer(IMAGE), expected) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert (restorer(IMAGE) == expected).all()


SILENT = """
import os, sys
seen = []
def hook(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        seen.append(event)
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork"):
        seen.append(f"{event} {arguments}")
sys.addaudithook(hook)
import maxim_deploy, numpy
with maxim_deploy.load(sys.argv[1], backend="openvino") as restorer:
    restorer(numpy.zeros((64, 64, 3), numpy.uint8))
for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else ():
    try:
        target = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue
    if target.startswith("socket:"):
        seen.append(target)
sys.exit("; ".join(seen) or 0)
"""


def test_it_writes_and_sends_nothing_about_its_user(demo_bundle: Path, tmp_path: Path) -> None:
    """Its tools bring a package that reports to their maker, and `import openvino` imports them."""
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment = {**os.environ, **home}
    del environment["MAXIM_DEPLOY_CACHE"]
    command = [sys.executable, "-c", SILENT, str(demo_bundle)]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    written = [path.relative_to(tmp_path).parts for path in tmp_path.rglob("*") if path.is_file()]
    assert {parts[0] for parts in written} == {"maxim-deploy"}
    kinds = sorted(parts[-1].rpartition(".")[2] for parts in written)
    assert kinds == ["blob", "key"]


def test_an_import_of_the_application_stays_and_info_says_so(
    restorer: Restorer, monkeypatch
) -> None:
    assert "openvino_telemetry" not in sys.modules
    monkeypatch.setitem(sys.modules, "openvino_telemetry", SimpleNamespace())
    assert "imported before maxim-deploy" in restorer.info.notes[-1]
    library.openvino()
    assert isinstance(sys.modules["openvino_telemetry"], SimpleNamespace)


def test_every_import_goes_through_the_one_door() -> None:
    for path in Path(maxim_deploy.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert OURS not in {name.partition(".")[0] for name in names}, f"{path}:{node.lineno}"  # type: ignore[attr-defined]
