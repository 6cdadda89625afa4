"""What `maxim-deploy triton` writes: configuration, versions, and that they are whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import write_identity_bundle, write_manifest
from engines.bundles import entry_of, tiny_graph
from engines.bundles import write_bundle as write_fp16_bundle
from inverter import files
from serving.repositories import config_of, inside, texts, versions

import maxim_deploy
from maxim_deploy import _folders
from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.runtime.lanes import LaneChoice
from maxim_deploy.serving.triton.config import check_config
from maxim_deploy.serving.triton.ends import IMAGE_ENDS
from maxim_deploy.serving.triton.options import ModelOptions
from maxim_deploy.serving.triton.repository import Written
from maxim_deploy.serving.triton.writing import add_to_repository
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.profiles import profiles_from_specs

TESTS = Path(__file__).parents[1]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_identity_bundle(tmp_path / "bundle")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "up" / "models"


def written(bundle: Path, repository: Path, **options: object) -> Written:
    return add_to_repository(bundle, repository, ModelOptions(**options))


def changed(bundle: Path) -> None:
    """Make it another bundle: its manifest is another."""
    manifest = bundle / "manifest.json"
    document = json.loads(manifest.read_text())
    document["settings"]["changed"] = document["settings"].get("changed", 0) + 1
    manifest.write_text(json.dumps(document))


class TestPython:
    def test_the_files(self, bundle: Path, repository: Path) -> None:
        made = written(bundle, repository)
        assert made == Written(repository / "tiny", 1, "version")
        assert inside(made.folder) == [
            "1/bundle/export.json", "1/bundle/fp16.tensor.onnx", "1/bundle/fp32.image.onnx",
            "1/bundle/fp32.tensor.onnx", "1/bundle/manifest.json", "1/model.py", "config.pbtxt",
        ]  # fmt: skip
        # Nothing else is in the repository: every folder there is a model to the server.
        assert files(repository) == ["tiny"] and files(repository.parent) == ["models"]

    def test_its_bundle_is_one(self, bundle: Path, repository: Path) -> None:
        copy = written(bundle, repository).folder / "1" / "bundle"
        picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
        with maxim_deploy.load(copy) as restorer:
            assert (restorer(picture) == picture).all()

    def test_engines_come_along(self, tmp_path: Path, repository: Path) -> None:
        bundle = with_engines(tmp_path / "bundle")
        found = inside(written(bundle, repository).folder / "1" / "bundle")
        assert "engines/x.engine" in found and "fp16.weights" in found

    def test_the_configuration(self, bundle: Path, repository: Path) -> None:
        config = config_of(written(bundle, repository).folder)
        assert (config.name, config.backend, config.max_batch_size) == ("tiny", "python", 8)
        for end, name in ((config.input[0], "image"), (config.output[0], "restored")):
            assert (end.name, end.data_type, [*end.dims]) == (name, 2, [-1, -1, 3])
        assert config.input[0].allow_ragged_batch
        (group,) = config.instance_group
        assert (group.kind, group.count, [*group.gpus]) == (group.KIND_CPU, 1, [])
        batching = config.dynamic_batching
        assert batching.default_queue_policy.max_queue_size == 0
        assert batching.max_queue_delay_microseconds == 0
        (sample,) = config.model_warmup
        assert (sample.name, [*sample.inputs["image"].dims]) == ("256x256", [256, 256, 3])
        assert not config.response_cache.enable

    def test_the_options(self, bundle: Path, repository: Path) -> None:
        model = written(
            bundle, repository, name="other.name", precision="fp16", instances=3, threads=2,
            max_memory=10**9, max_batch=4, queue=7, delay_us=1500, sizes=((64, 64), (33, 70)),
            environment="/opt/venv",
        ).folder  # fmt: skip
        config = config_of(model)
        assert model.name == config.name == "other.name" and config.max_batch_size == 4
        assert config.instance_group[0].count == 3
        assert config.dynamic_batching.default_queue_policy.max_queue_size == 7
        assert config.dynamic_batching.max_queue_delay_microseconds == 1500
        assert [sample.name for sample in config.model_warmup] == ["64x64", "33x70"]
        assert texts(model) == {
            "precision": "fp16", "threads": "2", "max_memory": "1000000000",
            "EXECUTION_ENV_PATH": "/opt/venv",
        }  # fmt: skip

    def test_engines_are_warmed_up_with_their_sizes(self, tmp_path: Path, repository: Path) -> None:
        bundle = with_engines(tmp_path / "bundle")
        config = config_of(written(bundle, repository, gpus=(0,)).folder)
        assert [sample.name for sample in config.model_warmup] == ["96x128"]

    def test_gpus(self, bundle: Path, repository: Path) -> None:
        (group,) = config_of(written(bundle, repository, gpus=(0, 1)).folder).instance_group
        assert (group.kind, group.count, [*group.gpus]) == (group.KIND_GPU, 1, [0, 1])


class TestVersions:
    def test_the_same_bundle_adds_none(self, bundle: Path, repository: Path) -> None:
        model = written(bundle, repository).folder
        before = {path: path.stat() for path in model.rglob("*")}
        (bundle / "export.json").write_text("{}")  # dated: not what the bundle is
        shutil.copytree(model / "1", model / "1" / "__pycache__")  # the server's
        assert written(bundle, repository) == Written(model, 1, "nothing")
        shutil.rmtree(model / "1" / "__pycache__")
        assert {path: path.stat().st_ino for path in before} == {
            path: one.st_ino for path, one in before.items()
        }

    def test_another_bundle_is_the_next(self, bundle: Path, repository: Path) -> None:
        model = written(bundle, repository).folder
        first = (model / "1" / "bundle" / "manifest.json").stat().st_ino
        changed(bundle)
        assert written(bundle, repository) == Written(model, 2, "version")
        assert versions(model) == ["1", "2"]
        # Earlier versions take no further space.
        assert (model / "1" / "bundle" / "manifest.json").stat().st_ino == first
        assert written(bundle, repository).change == "nothing"

    def test_numbers_are_numbers(self, bundle: Path, repository: Path) -> None:
        model = written(bundle, repository).folder
        (model / "1").rename(model / "9")
        (model / "9b").mkdir()
        (model / "labels.txt").write_text("mine")
        changed(bundle)
        assert written(bundle, repository).version == 10
        assert (model / "labels.txt").read_text() == "mine"

    def test_other_settings_are_no_version(self, bundle: Path, repository: Path) -> None:
        model = written(bundle, repository).folder
        assert written(bundle, repository, queue=5) == Written(model, 1, "config")
        assert config_of(model).dynamic_batching.default_queue_policy.max_queue_size == 5
        assert versions(model) == ["1"]

    def test_a_damaged_version_is_written_again(self, bundle: Path, repository: Path) -> None:
        model = written(bundle, repository).folder
        (model / "1" / "model.py").write_text("")
        assert written(bundle, repository) == Written(model, 2, "version")

    def test_no_links(self, bundle: Path, repository: Path, monkeypatch) -> None:
        written(bundle, repository)
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
        changed(bundle)
        model = written(bundle, repository).folder
        assert inside(model / "1") == inside(model / "2")

    def test_a_mounted_repository(self, bundle: Path, repository: Path, monkeypatch) -> None:
        """What is written beside it cannot be moved into it."""
        plain = _folders._rename_new

        def rename(new: Path, path: Path) -> None:
            if new.parent != path.parent:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            plain(new, path)

        monkeypatch.setattr(_folders, "_rename_new", rename)
        assert written(bundle, repository).change == "version"
        assert files(repository) == ["tiny"] and files(repository.parent) == ["models"]


KILLED = """
import os, signal, sys
from pathlib import Path
from maxim_deploy import _files, _folders
from maxim_deploy.serving.triton import repository
from maxim_deploy.serving.triton.options import ModelOptions
from maxim_deploy.serving.triton.writing import add_to_repository
count = int(sys.argv[3])

def counted(function):
    def call(*arguments, **options):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

for module, name in ((_files, "sync"), (_folders, "_swap"), (_folders, "_rename_new")):
    setattr(module, name, counted(getattr(module, name)))
_folders.sync = _files.sync
repository.shutil.copy2 = counted(repository.shutil.copy2)
add_to_repository(Path(sys.argv[1]), Path(sys.argv[2]), ModelOptions())
"""


@pytest.mark.parametrize("steps", [0, 1, 3, 7, 10])
def test_a_killed_writer_leaves_it_whole(bundle: Path, repository: Path, steps: int) -> None:
    model = written(bundle, repository).folder
    whole = inside(model)
    changed(bundle)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, bundle, repository, str(steps)],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert inside(model) == whole and files(repository) == ["tiny"]
    assert written(bundle, repository) == Written(model, 2, "version")
    assert files(repository.parent) == ["models"]


class TestOnnxRuntime:
    def test_weights_in_a_file(self, tmp_path: Path, repository: Path) -> None:
        bundle = write_fp16_bundle(tmp_path / "bundle", tiny_graph())
        model = written(bundle, repository, backend="onnxruntime", instances=1).folder
        assert inside(model / "1") == ["model.onnx/fp16.weights", "model.onnx/model.onnx"]
        import onnxruntime

        session = onnxruntime.InferenceSession(str(model / "1" / "model.onnx" / "model.onnx"))
        assert session.run(None, {"image": np.zeros((2, 5, 6, 3), np.uint8)})[0].shape[1:] == (
            5,
            6,
            3,
        )

    def test_the_configuration(self, bundle: Path, repository: Path) -> None:
        model = written(bundle, repository, backend="onnxruntime", instances=2, threads=3).folder
        assert inside(model / "1") == ["model.onnx"]
        config = config_of(model)
        assert (config.backend, config.max_batch_size) == ("onnxruntime", 8)
        # Its batches are of one size.
        assert not config.input[0].allow_ragged_batch
        assert config.instance_group[0].count == 2
        assert texts(model) == {"intra_op_thread_count": "3"}

    @pytest.mark.parametrize(
        "best, given, expected",
        [
            (4, {}, (4, 2)), (1, {}, (1, 8)), (4, {"threads": 3}, (2, 3)),
            (1, {"instances": 4}, (4, 2)), (1, {"instances": 20}, (20, 1)),
        ],
    )  # fmt: skip
    def test_instances_are_lanes(
        self, bundle: Path, repository: Path, monkeypatch, best, given, expected
    ) -> None:
        from maxim_deploy.serving.triton import version

        monkeypatch.setattr(version, "usable_processors", lambda: 8)
        monkeypatch.setattr(LaneChoice, "is_open", property(lambda _: True))
        monkeypatch.setattr(LaneChoice, "measure", lambda *_: best)
        monkeypatch.setattr("maxim_deploy.runtime.onnxruntime_backend.usable_processors", lambda: 8)
        model = written(bundle, repository, backend="onnxruntime", **given).folder
        instances, threads = expected
        assert config_of(model).instance_group[0].count == instances
        assert texts(model) == {"intra_op_thread_count": str(threads)}

    def test_on_gpus(self, tmp_path: Path, repository: Path) -> None:
        bundle = write_fp16_bundle(tmp_path / "bundle", tiny_graph())
        model = written(bundle, repository, backend="onnxruntime", gpus=(1,)).folder
        assert [*config_of(model).instance_group[0].gpus] == [1] and texts(model) == {}

    def test_a_bundle_without_the_form(self, bundle: Path, repository: Path) -> None:
        with pytest.raises(BundleError, match="has no bf16 graph of the 'image' form; it has: "):
            written(bundle, repository, backend="onnxruntime", precision="bf16")
        assert not repository.exists()


def with_engines(folder: Path, **changes: object) -> Path:
    path = write_fp16_bundle(folder, tiny_graph())
    bundle = Bundle.open(path)
    engine = entry_of(bundle, **changes)
    Bundle(path, replace(bundle.manifest, engines=[engine])).write()
    return path


class TestTensorRT:
    def test_an_engine(self, tmp_path: Path, repository: Path) -> None:
        model = written(
            with_engines(tmp_path / "b"), repository, backend="tensorrt", gpus=(2,)
        ).folder
        assert inside(model / "1") == ["model.plan"]
        config = config_of(model)
        assert (config.platform, config.backend, config.max_batch_size) == ("tensorrt_plan", "", 1)
        (group,) = config.instance_group
        assert (group.kind, group.count, [*group.gpus]) == (group.KIND_GPU, 2, [2])
        assert [*group.profile] == ["0", "1"]
        # What the profiles are tuned for.
        assert [sample.name for sample in config.model_warmup] == ["96x128"]

    def test_batches(self, tmp_path: Path, repository: Path) -> None:
        profiles = profiles_from_specs(["64x64:96x128:256x256@1:2:6"], "image")
        bundle = with_engines(tmp_path / "b", profiles=profiles)
        assert config_of(written(bundle, repository, backend="tensorrt").folder).max_batch_size == 6
        model = written(bundle, repository, backend="tensorrt", max_batch=4).folder
        assert config_of(model).max_batch_size == 4
        with pytest.raises(UsageError, match="takes batches of at most 6"):
            written(bundle, repository, backend="tensorrt", max_batch=7)

    def test_sizes_that_it_does_not_take(self, tmp_path: Path, repository: Path) -> None:
        with pytest.raises(
            UsageError, match="--size 512x512 | the engine 'engines/x.engine' takes"
        ):
            written(
                with_engines(tmp_path / "b"), repository, backend="tensorrt", sizes=((512, 512),)
            )

    @pytest.mark.parametrize(
        "changes, why",
        [
            ({"library": "tensorrt-rtx"}, "for engines of TensorRT for RTX: take --backend python"),
            ({"stripped": True}, "it has no weights in it, and Triton cannot add them"),
            ({"made_of": {}}, "changed since the build: build the engine again"),
            (
                {"profiles": profiles_from_specs(["64x64@4"], "image")},
                "it takes batches of at least 4, and Triton gives it single ones",
            ),
            ({"precision": "fp32"}, "has no bf16 engine"),
        ],
    )  # fmt: skip
    def test_engines_that_triton_cannot_run(
        self, tmp_path: Path, repository: Path, changes, why: str
    ) -> None:
        bundle = with_engines(tmp_path / "b", **changes)
        precision = "bf16" if "precision" in changes else "auto"
        with pytest.raises(BundleError) as caught:
            written(bundle, repository, backend="tensorrt", precision=precision)
        assert why in str(caught.value) and "--engine tensorrt --profile" in str(caught.value)
        assert not repository.exists()


class TestConfiguration:
    def test_a_typo(self) -> None:
        with pytest.raises(BundleError, match='has no field named "max_batch_sice"'):
            check_config('name: "x" max_batch_sice: 4', IMAGE_ENDS)

    @pytest.mark.parametrize(
        "dims, kind, name, why",
        [
            ("[-1, 3]", "TYPE_UINT8", "image", "'image' TYPE_UINT8 [-1, 3] | the graph has"),
            ("[-1, -1, 3]", "TYPE_INT8", "image", "'image' TYPE_INT8 [-1, -1, 3]"),
            ("[-1, -1, 3]", "TYPE_UINT8", "picture", "'picture' TYPE_UINT8"),
        ],
    )
    def test_other_ends(self, dims: str, kind: str, name: str, why: str) -> None:
        end = f'[{{ name: "{name}" data_type: {kind} dims: {dims} }}]'
        with pytest.raises(BundleError) as caught:
            check_config(f"input {end} output {end}", IMAGE_ENDS)
        assert why in str(caught.value)

    def test_a_graph_of_another_form(self, tmp_path: Path, repository: Path) -> None:
        folder = tmp_path / "bundle"
        folder.mkdir()
        model = onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["": 20]> g (uint8[N, H, W, 4] image) => '
            "(uint8[N, H, W, 4] restored) { restored = Identity (image) }"
        )
        onnx.save(model, folder / "fp32.image.onnx")
        entry = GraphEntry("fp32.image.onnx", "fp32", "image", None, 20, 1)
        write_manifest(folder, entry, settings={})
        for backend in ("python", "onnxruntime"):
            with pytest.raises(
                BundleError, match=r"the graph has 'image' TYPE_UINT8 \[-1, -1, 4\]"
            ):
                written(folder, repository, backend=backend, instances=1)


class TestUsage:
    @pytest.mark.parametrize(
        "options, why",
        [
            ({"name": "a/b"}, "model name 'a/b' | expected letters"),
            ({"name": ".hidden"}, "a letter or digit first"),
            ({"backend": "onnxruntime", "max_memory": 1}, "--max-memory is for --backend python"),
            ({"backend": "tensorrt", "environment": "x"}, "--environment is for --backend python"),
            ({"gpus": (0,), "threads": 1}, "--threads is for instances on the CPU"),
            ({"backend": "tensorrt", "threads": 1}, "--threads is for instances on the CPU"),
        ],
    )
    def test_options(self, options, why: str) -> None:
        with pytest.raises(UsageError) as caught:
            ModelOptions(**options)
        assert why in str(caught.value)

    def test_a_file_in_the_way(self, bundle: Path, repository: Path) -> None:
        repository.parent.mkdir()
        repository.write_text("")
        with pytest.raises(UsageError, match="is a file, and a folder is expected"):
            written(bundle, repository)
        repository.unlink()
        repository.mkdir()
        (repository / "tiny").write_text("")
        with pytest.raises(UsageError, match="is a file, and a folder is expected"):
            written(bundle, repository)

    def test_a_damaged_bundle(self, bundle: Path, repository: Path) -> None:
        (bundle / "fp16.tensor.onnx").write_bytes(b"")
        with pytest.raises(BundleError, match="has changed since the export"):
            written(bundle, repository)
        assert files(repository) == []
