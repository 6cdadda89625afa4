"""Every accepted kind of file, and what is recorded about where it came from."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
import safetensors
from checkpoints.samples import TINY, as_state_dict, assert_same
from safetensors.numpy import save_file

from maxim_deploy._files import sha256_of
from maxim_deploy.checkpoints import (
    Checkpoint,
    demo_weights,
    open_model,
    read_checkpoint,
    write_safetensors,
)
from maxim_deploy.errors import CheckpointError, UsageError
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.models import PUBLISHED


def under_prefix(weights):
    return {f"opt/target/{path}": array for path, array in weights.items()}


def test_published_npz_and_its_provenance(weights, save_npz):
    path = save_npz(weights, "some-model.npz")
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint, weights)
    assert checkpoint.descriptor == Descriptor(
        name="some-model", source="some-model.npz", source_sha256=sha256_of(path)
    )


def test_npz_without_prefix_and_compressed(weights, tmp_path):
    np.savez_compressed(tmp_path / "w.npz", **weights)
    assert_same(read_checkpoint(str(tmp_path / "w.npz")), weights)


def test_optimiser_state_beside_the_parameters_is_not_even_read(weights, tmp_path):
    state = {"opt/state/step": np.array(3), "opt/state/junk": np.array([{}], dtype=object)}
    np.savez(tmp_path / "w.npz", **under_prefix(weights), **state)
    assert_same(read_checkpoint(tmp_path / "w.npz"), weights)


def test_other_memory_layouts_and_widths_become_float32(weights, save_npz):
    wide = {p: np.asfortranarray(a.astype(">f8")) for p, a in weights.items()}
    assert_same(read_checkpoint(save_npz(wide)), weights)


@pytest.mark.parametrize("arrange", [dict, under_prefix, as_state_dict])
def test_safetensors_from_the_library(arrange, weights, tmp_path):
    save_file(arrange(weights), tmp_path / "w.safetensors")
    assert_same(read_checkpoint(tmp_path / "w.safetensors"), weights)


def test_safetensors_whose_metadata_is_null(weights, tmp_path):
    save_file(weights, tmp_path / "plain.safetensors")
    content = (tmp_path / "plain.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = b'{"__metadata__":null,' + content[9 : 8 + length]
    null = len(header).to_bytes(8, "little") + header + content[8 + length :]
    (tmp_path / "w.safetensors").write_bytes(null)
    assert_same(read_checkpoint(tmp_path / "w.safetensors"), weights)


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such file names")
@pytest.mark.parametrize("given", [None, Descriptor(os.fsdecode(b"caf\xe9"))])
def test_a_file_name_that_is_not_utf8(weights, save_npz, tmp_path, given):
    """The name goes into graphs and safetensors, which hold UTF-8 only."""
    path = save_npz(weights).rename(tmp_path / os.fsdecode(b"caf\xe9.npz"))
    found = read_checkpoint(path, descriptor=given)
    assert (found.descriptor.name, found.descriptor.source) == ("caf\ufffd", "caf\ufffd.npz")
    write_safetensors(tmp_path / "copy.safetensors", found)
    assert read_checkpoint(tmp_path / "copy.safetensors").descriptor == found.descriptor


@pytest.mark.parametrize("arrange", [dict, under_prefix, as_state_dict])
@pytest.mark.parametrize("is_zip", [True, False])
def test_pytorch_files(arrange, is_zip, weights, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in arrange(weights).items()}
    # The extension does not matter, the content does.
    torch.save(tensors, tmp_path / "w.npz", _use_new_zipfile_serialization=is_zip)
    assert_same(read_checkpoint(tmp_path / "w.npz"), weights)
    wrapped = {"state_dict": tensors, "epoch": 3}
    torch.save(wrapped, tmp_path / "w.pt", _use_new_zipfile_serialization=is_zip)
    assert_same(read_checkpoint(tmp_path / "w.pt"), weights)


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(kind, dtype, weights, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    tensors = {p: torch.from_numpy(a).to(getattr(torch, dtype)) for p, a in weights.items()}
    path = tmp_path / f"w.{kind}"
    torch.save(tensors, path) if kind == "pt" else save_tensors(tensors, path)
    assert_same(read_checkpoint(path), {p: t.float().numpy() for p, t in tensors.items()})


def test_write_and_read_is_exact_and_keeps_the_provenance(weights, save_npz, tmp_path):
    known = Descriptor("my-model", task="denoising", dataset="Mine", licence="CC0-1.0")
    source = save_npz(weights)
    first = read_checkpoint(source, descriptor=known)
    write_safetensors(tmp_path / "copy.safetensors", first)
    second = read_checkpoint(tmp_path / "copy.safetensors")
    assert_same(second, weights)
    assert second.descriptor == first.descriptor
    assert first.descriptor.source == "weights.npz"
    assert first.descriptor.source_sha256 == sha256_of(source)

    with safetensors.safe_open(tmp_path / "copy.safetensors", "numpy") as file:  # a second opinion
        assert set(file.keys()) == set(weights)
        assert file.metadata()["maxim_deploy_format"] == "1"
        assert json.loads(file.metadata()["architecture"]) == TINY.to_json()


def test_written_bytes_depend_on_the_content_alone(weights, tmp_path):
    backwards = dict(reversed(weights.items()))
    for name, arrays in (("a", weights), ("b", backwards)):
        write_safetensors(tmp_path / name, Checkpoint(arrays, TINY, Descriptor("x", task="y")))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    header_length = int.from_bytes((tmp_path / "a").read_bytes()[:8], "little")
    assert header_length % 8 == 0  # arrays are aligned for whoever maps the file


def test_writing_where_it_cannot_be(weights, tmp_path):
    target = tmp_path / "no-such-folder" / "w.safetensors"
    with pytest.raises(CheckpointError, match=r"cannot write the weights to .*no-such-folder"):
        write_safetensors(target, Checkpoint(weights, TINY, Descriptor("x")))


def test_a_given_descriptor_keeps_its_source_and_gets_the_hash(weights, save_npz):
    path = save_npz(weights)
    given = Descriptor("m", source="https://example.org/m.npz")
    assert read_checkpoint(path, descriptor=given).descriptor == Descriptor(
        "m", source="https://example.org/m.npz", source_sha256=sha256_of(path)
    )


def test_demo_model_is_complete_and_described():
    checkpoint = open_model("demo-denoise")
    assert checkpoint.architecture == Architecture(8, 1, groups=1, bottleneck_blocks=1)
    assert sum(array.size for array in checkpoint.arrays.values()) == 1_263_069
    assert {array.dtype for array in checkpoint.arrays.values()} == {np.dtype(np.float32)}
    assert checkpoint.descriptor == Descriptor(
        name="demo-denoise",
        task="denoising",
        licence="Apache-2.0",
        source="demo-denoise.safetensors",
        source_sha256=sha256_of(demo_weights()),
    )


def test_published_model_from_the_cache(tmp_path, monkeypatch):
    from maxim_deploy.checkpoints import parameter_shapes
    from maxim_deploy.spec.architecture import VARIANTS

    model = PUBLISHED["enhancement-lol"]
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path))
    file = tmp_path / model.name / "checkpoint.npz"
    file.parent.mkdir()
    shapes = parameter_shapes(VARIANTS["S-2"])
    np.savez(file, **under_prefix({p: np.ones(s, np.float32) for p, s in shapes.items()}))

    checkpoint = open_model(model.name)
    assert checkpoint.architecture.variant == "S-2"
    assert checkpoint.descriptor == Descriptor(
        name=model.name,
        task="enhancement",
        dataset="LOL",
        licence="Apache-2.0",
        source=model.url,
        source_sha256=sha256_of(file),
    )


def test_published_name_with_other_weights(weights, save_npz, tmp_path, monkeypatch):
    monkeypatch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path))
    (tmp_path / "denoising-sidd").mkdir()
    save_npz(weights, "denoising-sidd/checkpoint.npz")
    with pytest.raises(CheckpointError, match=r"features 4, stages 1.*requested is S-3"):
        open_model("denoising-sidd")


def test_unknown_model_name():
    with pytest.raises(UsageError, match="did you mean 'deblurring-gopro'"):
        open_model("deblurring-goopro")


def test_weights_are_pinned(weights, save_npz, tmp_path):
    path = save_npz(weights, "x.npz")
    digest = sha256_of(path)
    assert read_checkpoint(path, sha256=digest).descriptor.source_sha256 == digest
    with pytest.raises(CheckpointError, match=f"its SHA-256 is {digest}, expected is 0000"):
        read_checkpoint(path, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="expected is 0000"):
        open_model("denoising-sidd", file=path, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="expected is 0000"):
        open_model("demo-denoise", sha256="0" * 64)
