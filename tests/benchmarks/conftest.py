"""The smallest network there is, as literal weights in a bundle without graphs."""

from __future__ import annotations

import pytest
from benchmarks.bundles import weights_only

from maxim_deploy.spec.bundle import Bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Not to be modified."""
    folder = tmp_path_factory.mktemp("tiny")
    return weights_only(folder)
