"""One bad file after another: what the message says, and that nothing in it is executed."""

from __future__ import annotations

import os
import pickle
import random
import time
import zipfile

import numpy as np
import pytest

from maxim_deploy.checkpoints import Checkpoint, read_checkpoint, torch_name, write_safetensors
from maxim_deploy.errors import CheckpointError, UsageError
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.descriptor import Descriptor

KINDS = (".npz", ".safetensors", "PyTorch")
NORM = "stage_0_encoder_block_0/channel_attention_block_10/LayerNorm/scale"


def message(path, **options) -> str:
    """What reading `path` complains about, after the path that each complaint begins with."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, **options)
    start = f"checkpoint {str(path)!r}: "
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


def assert_says(text: str, *words: str) -> None:
    for word in words:
        assert word in text


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_missing_file(tmp_path):
    assert_says(message(tmp_path / "gone.npz"), "there is no such file", *KINDS)


def test_directory(tmp_path):
    assert_says(message(tmp_path), "directory", *KINDS)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "it is empty"), (b"<!doctype html>", "<!doctype"), (b"\x93NUMPY\x01\x00", "NUMPY")],
)
def test_another_kind_of_file(content, found, tmp_path):
    (tmp_path / "w.npz").write_bytes(content)
    assert_says(message(tmp_path / "w.npz"), "not a file of weights", found, *KINDS)


def test_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert_says(message(tmp_path / "w.npz"), "a zip without weights", "readme.txt", *KINDS)


def test_truncated_zip(weights, save_npz):
    path = save_npz(weights)
    path.write_bytes(path.read_bytes()[:-1000])
    assert_says(message(path), "truncated or damaged zip", "download the file again")


def test_damaged_entry(weights, save_npz):
    path = save_npz(weights)
    content = path.read_bytes()
    raw = weights[NORM].tobytes()
    assert raw in content
    path.write_bytes(content.replace(raw, bytes(len(raw))))
    assert_says(message(path), f"entry 'opt/target/{NORM}' is damaged", "CRC-32")


def test_object_array_is_not_unpickled(weights, save_npz, tmp_path):
    trap = tmp_path / "sprung"
    path = save_npz(weights | {NORM: np.array([Trap(trap)], dtype=object)})
    assert_says(message(path), f"'opt/target/{NORM}'", "nothing was unpickled", "numpy.savez")
    assert not trap.exists()


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_pytorch_file_with_other_objects_is_not_executed(how, tmp_path):
    torch = pytest.importorskip("torch")
    trap, path = tmp_path / "sprung", tmp_path / "w.pt"
    content = {"state_dict": {"a": torch.ones(1)}, "trap": Trap(trap)}
    if how == "plain pickle":
        path.write_bytes(pickle.dumps({"trap": Trap(trap)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    assert_says(message(path), "plain tensors", "never executed", "model.state_dict()")
    assert not trap.exists()


def test_truncated_pytorch_file(weights, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-1000])
    assert_says(message(path), "it is damaged", "torch.save")


def test_pytorch_file_without_a_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save([torch.ones(1)], tmp_path / "w.pt")
    assert_says(message(tmp_path / "w.pt"), "holds a list", "'state_dict'")
    torch.save({"model": {"a.b": torch.ones(1), "c": torch.ones(1)}}, tmp_path / "w.pt")
    assert_says(message(tmp_path / "w.pt"), "not a MAXIM", "'stage_0_input_conv_0.bias'", "2 found")


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_pytorch_tensors_that_are_not_plain(weights, tmp_path, kind):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    tensors[NORM] = tensors[NORM].to_sparse() if kind == "sparse" else tensors[NORM].to("meta")
    torch.save(tensors, tmp_path / "w.pt")
    assert_says(message(tmp_path / "w.pt"), f"{NORM!r} is not a plain tensor", "Save dense")


@pytest.mark.parametrize("keep", [20, -1000])
def test_truncated_safetensors(keep, weights, tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, Checkpoint(weights, Architecture(4, 1, 1, 1), Descriptor("w")))
    path.write_bytes(path.read_bytes()[:keep])
    assert_says(message(path), "truncated or damaged safetensors", "download the file again")


def test_safetensors_of_a_later_format(weights, tmp_path):
    from safetensors.numpy import save_file

    save_file(weights, tmp_path / "w.safetensors", {"maxim_deploy_format": "2"})
    assert_says(message(tmp_path / "w.safetensors"), "is 2", "reads 1", "upgrade maxim-deploy")


@pytest.mark.filterwarnings("ignore::UserWarning")  # duplicate names, odd pickle protocols
@pytest.mark.parametrize("kind", ["npz", "safetensors", "pt", "legacy pt"])
def test_no_damage_gets_past(kind, weights, tmp_path):
    small = dict(list(weights.items())[:3])
    path = tmp_path / "w"
    if kind == "npz":
        np.savez(tmp_path / "w.npz", **small)
        (tmp_path / "w.npz").rename(path)
    elif kind == "safetensors":
        write_safetensors(path, Checkpoint(small, Architecture(4, 1, 1, 1), Descriptor("w")))
    else:
        torch = pytest.importorskip("torch")
        tensors = {name: torch.from_numpy(array) for name, array in small.items()}
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "pt")
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(3):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice([None, chance.randrange(len(content))])])
        assert message(path)


def test_optimiser_state_alone(tmp_path):
    np.savez(tmp_path / "w.npz", **{"opt/state/step": np.ones(1), "opt/state/m": np.ones(1)})
    assert_says(message(tmp_path / "w.npz"), "none of its 2 entries", "'opt/target/'", "optimiser")


@pytest.mark.parametrize("rename", [str, torch_name])
def test_wrong_names_are_all_listed(rename, weights, tmp_path):
    lost = [path for path in weights if "decoder_block_1/" in path]
    arrays = {rename(path): weights[path] for path in weights if path not in lost}
    for path in lost[2:]:
        arrays[rename(path.replace("decoder", "dekoder"))] = weights[path]
    arrays["zzz"] = np.ones(1, np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    text = message(tmp_path / "w.npz")
    assert_says(text, f"of {len(weights)} parameters {len(lost)} are missing")
    assert_says(text, f"and {len(lost) - 1} are unexpected", "features 4")
    for path in lost:
        assert f"\n  missing: {rename(path)}\n" in text
    for path in lost[2:]:
        odd = rename(path.replace("decoder", "dekoder"))
        assert f"\n  unexpected: {odd} (did you mean {rename(path)!r}?)" in text
    assert text.endswith("\n  unexpected: zzz")


@pytest.mark.xdist_group("measuring")
def test_listing_many_wrong_names_takes_no_minutes(weights, save_npz):
    telling = ("stage_0_input_conv_0/", "stage_0_encoder_block_0/", "stage_0_global_block_0/")
    names = {}
    for path in weights:
        *modules, leaf = path.split("/")
        anagram = "/".join([*("".join(sorted(module)) for module in modules), leaf])
        names[path] = path if path.startswith(telling) else anagram
    path = save_npz({names[path]: array for path, array in weights.items()})
    start = time.perf_counter()
    text = message(path)
    assert text.count("unexpected: ") == 50
    assert time.perf_counter() - start < 5


def test_wrong_shapes_are_all_listed(weights, save_npz):
    kernel = "stage_0_input_conv_0/kernel"
    text = message(
        save_npz(weights | {NORM: np.ones(5, np.float32), kernel: np.ones((), np.float32)})
    )
    assert_says(text, f"2 of {len(weights)} parameters have a wrong shape")
    assert_says(text, f"  opt/target/{NORM}: found (5,), expected (4,)")
    assert_says(text, f"  opt/target/{kernel}: found (), expected (3, 3, 3, 4)")


def test_wrong_shape_in_a_state_dict(weights, tmp_path):
    from maxim_deploy.checkpoints import to_torch

    arrays = {torch_name(path): to_torch(path, array) for path, array in weights.items()}
    arrays["stage_0_input_conv_0.weight"] = np.ones((4, 3, 5, 3), np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    assert_says(message(tmp_path / "w.npz"), "0.weight: found (4, 3, 5, 3), expected (4, 3, 3, 3)")


@pytest.mark.filterwarnings("error")  # the float64 that is too large must not warn as well
def test_values_that_are_not_finite_are_counted(weights, save_npz):
    kernel = "stage_0_input_conv_0/kernel"
    holes = weights[kernel].copy()
    holes[0, 0, 0] = np.nan
    text = message(save_npz(weights | {kernel: holes, NORM: np.array([1, 2, -np.inf, 1e300])}))
    assert_says(text, f"2 of {len(weights)} parameters", "NaN or infinite")
    assert_says(text, f"  opt/target/{kernel}: 4 of 108", f"  opt/target/{NORM}: 2 of 4 values")


@pytest.mark.parametrize("array", [np.ones(4, int), np.array(["x"] * 4), np.ones(4, complex)])
def test_arrays_that_are_not_floats(array, weights, save_npz):
    text = message(save_npz(weights | {NORM: array}))
    assert_says(text, f"'opt/target/{NORM}'", f"of type {array.dtype}", "expected float32")


def test_integers_in_safetensors(weights, tmp_path):
    from safetensors.numpy import save_file

    save_file(weights | {NORM: np.ones(4, np.int8)}, tmp_path / "w.safetensors")
    assert_says(message(tmp_path / "w.safetensors"), f"{NORM!r} is of type I8", "expected float32")


def test_another_variant_than_asked_for(weights, save_npz):
    text = message(save_npz(weights), variant="S-2")
    assert_says(text, "features 4, stages 1, groups 1", "requested is S-2 (features 32, stages 2")


def test_unknown_variant_is_a_usage_error(weights, save_npz):
    with pytest.raises(UsageError, match="unknown variant 'S-4'"):
        read_checkpoint(save_npz(weights), variant="S-4")


def test_not_a_maxim(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(3))
    assert_says(
        message(tmp_path / "w.npz"), "not a MAXIM", "'stage_0_input_conv_0/bias'", "1 found"
    )
