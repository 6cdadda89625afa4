"""Sizes at which hosts must agree with the runtime, and how far they may be from it."""

from __future__ import annotations

import pytest

SIZES = [
    pytest.param(size, id="x".join(map(str, size)), marks=marks)
    for size, marks in (
        ((1, 1), ()),
        ((37, 53), ()),
        ((64, 80), ()),
        ((48, 48), ()),
        ((720, 1280), pytest.mark.slow),
        ((1080, 1920), pytest.mark.extended),
    )
]

TOLERANCE = 1e-5
"""On values in [0, 1], in float32. Seen: 2e-6."""
