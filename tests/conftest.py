"""Fixtures that several test folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--extended", action="store_true", help="run the tests marked `extended` as well"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--extended"):
        for item in items:
            if item.get_closest_marker("extended"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; pass --extended"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXIM_DEPLOY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, exported once for the whole run. Not to be modified: copy it first."""
    from maxim_deploy.checkpoints import open_model
    from maxim_deploy.export import export_bundle

    folder = tmp_path_factory.mktemp("bundles") / "demo-denoise"
    export_bundle(open_model("demo-denoise"), folder)
    return folder
