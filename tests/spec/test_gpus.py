"""The table of known GPUs, and the least time of a run."""

from __future__ import annotations

import pytest

from maxim_deploy.spec.gpus import KNOWN_GPUS, bound_ms, known_gpu


def test_a_bound_is_by_the_slower_of_bytes_and_operations() -> None:
    assert bound_ms(3e9, 300) == pytest.approx(10)
    assert bound_ms(3e9, 300, 1e12, 121e3) == pytest.approx(10)
    assert bound_ms(3e9, 300, 12.1e12, 121e3) == pytest.approx(100)


def test_a_gpu_is_known_by_the_name_that_its_driver_reports() -> None:
    gpu = known_gpu("NVIDIA L4")
    assert gpu is not None and (gpu.gbps, gpu.compute_capability) == (300, "8.9")
    assert gpu.gflops("fp16") == gpu.gflops("bf16") == 121e3
    assert gpu.gflops("fp32") == pytest.approx(30.3e3)
    assert known_gpu("NVIDIA L40") is None


def test_every_row_has_a_name_of_its_own_a_source_and_plausible_rates() -> None:
    assert len({gpu.name for gpu in KNOWN_GPUS}) == len(KNOWN_GPUS)
    for gpu in KNOWN_GPUS:
        assert gpu.source.startswith("NVIDIA ")
        assert 100 < gpu.gbps < 10_000
        # A product of matrices is 1.9 (consumer Ampere) to 16 times as fast in tensor cores.
        assert 1.9 < gpu.fp16_tflops / gpu.fp32_tflops < 17
