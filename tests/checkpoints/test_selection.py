"""Weights as trainers write them: nested, under prefixes, wrapped, several at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints.samples import as_state_dict, assert_same
from safetensors.numpy import save_file

from maxim_deploy.checkpoints import read_checkpoint
from maxim_deploy.errors import CheckpointError

Weights = dict[str, np.ndarray]
BIAS = "stage_0_input_conv_0.bias"


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: array for name, array in weights.items()}


def zeros(weights: Weights) -> Weights:
    return {name: np.zeros_like(array) for name, array in weights.items()}


def some_wrapped(weights: Weights) -> Weights:
    """As after `torch.compile` of one block, and DistributedDataParallel of another."""
    parts = {"encoder_block": "_orig_mod.", "decoder_block": "module."}
    wrapped = {}
    for name, array in weights.items():
        module, _, rest = name.partition(".")
        part = next((add for word, add in parts.items() if word in module), "")
        wrapped[f"{module}.{part}{rest}"] = array
    return wrapped


def read_pytorch(path: Path, content: object) -> object:
    torch = pytest.importorskip("torch")

    def tensors(value):
        if isinstance(value, dict):
            return {key: tensors(each) for key, each in value.items()}
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    torch.save(tensors(content), path)
    return read_checkpoint(path)


STEP = np.ones((), np.int64)
LAYOUTS: dict[str, tuple[Callable[[Weights], object], str]] = {
    "params": (lambda w: {"params": w}, "'params'"),
    "model": (lambda w: {"model": w, "epoch": 3, "optimizer": {"state": {0: STEP}}}, "'model'"),
    "model_state_dict": (lambda w: {"model_state_dict": w, "loss": 0.5}, "'model_state_dict'"),
    "generator": (lambda w: {"generator": w, "discriminator": {"a": STEP}}, "'generator'"),
    "net": (lambda w: {"net": w}, "'net'"),
    "nested": (lambda w: {"state_dict": {"params_ema": w}}, "'state_dict' / 'params_ema'"),
    "module": (lambda w: prefixed("module.", w), "names that begin with 'module.'"),
    "compiled": (lambda w: prefixed("_orig_mod.", w), "names that begin with '_orig_mod.'"),
    "both": (lambda w: prefixed("module._orig_mod.", w), "'module._orig_mod.'"),
    "inside": (some_wrapped, ""),
    "partly": (lambda w: prefixed("module.", dict(list(w.items())[:9])) | dict(list(w.items())[9:]),
               "names that begin with 'module.'"),
    "some": (lambda w: {f"net.{k}" if "UpSample" in k else k: v for k, v in w.items()}, ""),
    "others": (lambda w: {k if "UpSample" in k else f"net.{k}": v for k, v in w.items()},
                  "'net.'"),
    "averaged": (lambda w: prefixed("module.", w) | {"n_averaged": STEP}, "'module.'"),
    "Lightning": (lambda w: {"state_dict": prefixed("model.", w) | {"loss.weight": STEP}},
                  "'state_dict', names that begin with 'model.'"),
    "GAN": (lambda w: prefixed("net_g.", w) | {"net_d.conv.weight": STEP}, "'net_g.'"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found(layout: str, weights: Weights, tmp_path: Path) -> None:
    arrange, words = LAYOUTS[layout]
    checkpoint = read_pytorch(tmp_path / "w.pth", arrange(as_state_dict(weights)))
    assert_same(checkpoint, weights)
    assert words in checkpoint.taken and bool(words) == bool(checkpoint.taken)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arrange", "taken", "not_taken"),
    [
        (lambda w: {"params": zeros(w), "params_ema": w}, "'params_ema'", "'params'"),
        (lambda w: {"ema": w, "model": zeros(w)}, "'ema'", "'model'"),
        (lambda w: zeros(w) | prefixed("model_ema.", w), "'model_ema.'", "names without a prefix"),
        (lambda w: prefixed("module.", w) | prefixed("t.", zeros(w)), "'module.'", "'t.'"),
        (lambda w: {"net_g": w, "best": zeros(w)}, "'net_g'", "'best'"),
        (lambda w: w | prefixed("teacher.", zeros(w)), "names without a prefix", "'teacher.'"),
    ],
)
def test_of_several_the_choice_is_said(arrange, taken, not_taken, weights, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "maxim_deploy"):
        checkpoint = read_pytorch(tmp_path / "w.pth", arrange(as_state_dict(weights)))
    assert_same(checkpoint, weights)
    said, _, rest = checkpoint.taken.partition("; not taken: ")  # type: ignore[attr-defined]
    assert taken in said and not_taken in rest
    (record,) = caplog.records
    assert record.levelname == "WARNING" and checkpoint.taken in record.getMessage()  # type: ignore[attr-defined]


@pytest.mark.parametrize("prefix", ["params_ema.", "module.model.", "opt/target/", "params/"])
@pytest.mark.parametrize("save", [np.savez, None])
def test_prefixes_in_npz_and_safetensors(prefix, save, weights, tmp_path) -> None:
    path = tmp_path / "w.npz"
    named = weights if prefix.endswith("/") else as_state_dict(weights)
    arrays = prefixed(prefix, named) | {"step": np.ones(1, np.int32)}
    if save:
        save(path, **arrays)
    else:
        save_file(arrays, path)
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint, weights)
    assert (prefix in checkpoint.taken) == (prefix != "opt/target/")


def test_optimiser_state_is_not_taken_for_weights(weights, tmp_path) -> None:
    named = as_state_dict(weights)
    content = {"optimizer": {"exp_avg": zeros(named)}, "model": named}
    assert_same(read_pytorch(tmp_path / "w.pth", content), weights)
    np.savez(tmp_path / "w.npz", **prefixed("opt_state/0/mu/", zeros(weights)),
             **prefixed("params/", weights))  # fmt: skip
    assert_same(read_checkpoint(tmp_path / "w.npz"), weights)


def refusal(path: Path, content: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_pytorch(path, content)
    return str(caught.value)


def test_names_in_messages_are_those_of_the_file(weights, tmp_path) -> None:
    path, named = tmp_path / "w.pth", prefixed("module.", as_state_dict(weights))
    kernel = "module.stage_0_input_conv_0.weight"
    text = refusal(path, {"params": {k: v for k, v in named.items() if k != kernel}})
    assert text.endswith(f"\n  missing: {kernel}")
    text = refusal(path, {"params": named | {"module.zzz": np.ones(1, np.float32)}})
    assert text.endswith("\n  unexpected: module.zzz")
    text = refusal(path, named | {kernel: np.ones((4, 3, 5, 5), np.float32)})
    assert text.endswith(f"\n  {kernel}: found (4, 3, 5, 5), expected (4, 3, 3, 3)")
    text = refusal(path, named | {kernel: np.full((4, 3, 3, 3), np.nan, np.float32)})
    assert text.endswith(f"\n  {kernel}: 108 of 108 values")
    text = refusal(path, named | {kernel: np.ones(4, np.int32)})
    assert f"parameter {kernel!r} is of type torch.int32" in text
    first = f"module.{BIAS}"
    text = refusal(path, named | {first: np.ones((4, 1), np.float32)})
    assert f"{first!r} has shape (4, 1)" in text


def test_one_parameter_twice(weights, tmp_path) -> None:
    named = as_state_dict(weights)
    text = refusal(tmp_path / "w.pth", named | {f"module.{BIAS}": named[BIAS]})
    assert f"{BIAS!r} and 'module.{BIAS}' are one parameter" in text
