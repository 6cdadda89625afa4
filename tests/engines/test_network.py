"""The network as parsed, and the builder's configuration, read back from TensorRT for RTX."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from engines.bundles import settings, tiny_graph, write_bundle

from maxim_deploy.engines.building import builder_config, known_targets
from maxim_deploy.engines.network import check_network
from maxim_deploy.engines.store import add_engine
from maxim_deploy.errors import EngineError, UsageError
from maxim_deploy.machine.tensorrt import parse_graph


@pytest.fixture
def parsed(trt, bundle: Path):
    return parse_graph(trt, bundle / "fp16.image.onnx")


def test_a_network_as_exported_passes(parsed) -> None:
    check_network(parsed, "fp16", "image", set())


def test_another_form_is_found(parsed) -> None:
    message = r"input \[\('image', 'uint8', \(-1, -1, -1, 3\)\)\], expected .*'float32'"
    with pytest.raises(EngineError, match=message):
        check_network(parsed, "fp16", "tensor", set())


def test_an_output_of_another_name_or_axes_is_found(parsed) -> None:
    parsed.network.get_output(0).name = "other"
    with pytest.raises(EngineError, match=r"output \[\('other', 'uint8'"):
        check_network(parsed, "fp16", "image", set())
    tensors = [
        SimpleNamespace(name=name, dtype=SimpleNamespace(name="UINT8"), shape=shape)
        for name, shape in (("image", (-1, -1, -1, 3)), ("restored", (1, -1, -1, 3)))
    ]
    network = SimpleNamespace(
        num_inputs=1, num_outputs=1, num_layers=1,
        get_input=lambda _: tensors[0], get_output=lambda _: tensors[1],
    )  # fmt: skip
    with pytest.raises(EngineError, match=r"output \[\('restored', 'uint8', \(1, -1, -1, 3\)\)\]"):
        check_network(SimpleNamespace(network=network), "fp32", "image", set())


STRAY = """[stages/0/wide] wider = Cast<to = 1>(low)
            [stages/0/Exp_0] curved = Exp(wider)
            [stages/0/narrow] moved = Cast<to = 10>(curved)"""


def test_float32_outside_the_table_is_found(trt, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", tiny_graph(stray=STRAY), islands=[])
    message = r"float32 outside the decision table: stages/0/wide, stages/0/Exp_0"
    with pytest.raises(EngineError, match=message):
        add_engine(bundle, settings("64x64"))
    parsed = parse_graph(trt, bundle / "fp16.image.onnx")
    check_network(parsed, "fp16", "image", {"stages/0/wide", "stages/0/Exp_0"})


def test_islands_that_are_none_are_found(parsed) -> None:
    with pytest.raises(EngineError, match="fp16 inside the decision table's islands: stages/0/Con"):
        check_network(parsed, "fp16", "image", {"stages/0/Conv_0"})
    with pytest.raises(EngineError, match="islands that are not in the network: gone"):
        check_network(parsed, "fp16", "image", {"gone"})


def test_a_table_that_cannot_be_read(trt, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", tiny_graph())
    (bundle / "fp16.table.json").unlink()
    with pytest.raises(Exception, match=r"fp16\.table\.json.* is missing"):
        add_engine(bundle, settings("64x64"))


def test_a_graph_that_the_parser_refuses(trt, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", tiny_graph(stray="[here] moved = Bernoulli(low)"))
    with pytest.raises(EngineError, match=r"fp16\.image\.onnx \| here Bernoulli: "):
        add_engine(bundle, settings("64x64"))


def test_the_configuration_is_what_was_asked_for(trt, parsed) -> None:
    asked = settings(
        "64x64", "64x64:96x128:256x512@1:2:4", targets=["7.5", "12.0"], workspace=2**30
    )
    config = builder_config(parsed, asked, level=1)
    assert config.num_optimization_profiles == 2
    assert config.num_compute_capabilities == 2
    assert config.get_compute_capability(1) == trt.ComputeCapability.SM120
    assert config.builder_optimization_level == 1
    assert config.max_aux_streams == 0
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 2**30
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert not config.get_flag(trt.BuilderFlag.STRIP_PLAN)


def test_flags(trt, parsed) -> None:
    config = builder_config(parsed, settings("64x64", tf32=True, strip_weights=True), level=3)
    flags = trt.BuilderFlag
    assert all(config.get_flag(f) for f in (flags.TF32, flags.STRIP_PLAN, flags.REFIT_IDENTICAL))
    assert config.num_compute_capabilities == 0  # the portable default


def test_a_profile_that_the_graph_cannot_take(trt, parsed) -> None:
    with pytest.raises(UsageError, match=r"'64x64': \(1, 3, 64, 64\) does not fit the input"):
        builder_config(parsed, settings("64x64", io="tensor"), level=3)


def test_targets_of_the_library(trt) -> None:
    assert {"7.5", "8.6", "8.9", "12.0"} <= known_targets(trt).keys()
    assert "9.0" not in known_targets(trt)
