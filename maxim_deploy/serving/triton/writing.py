"""From a bundle to a version of a model in a repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from maxim_deploy._folders import read_whole
from maxim_deploy.serving.triton.config import config_text
from maxim_deploy.serving.triton.options import ModelOptions
from maxim_deploy.serving.triton.repository import Written, write_model
from maxim_deploy.serving.triton.version import version_from_bundle
from maxim_deploy.spec.bundle import Bundle


def add_to_repository(bundle: Path, repository: Path, options: ModelOptions) -> Written:
    """Add a bundle to a repository: as the next version of its model, unless it is the newest.

    Args:
        bundle: the folder.
        repository: the folder that the server reads; made if it is not there.
        options: how it is to be served.

    Raises:
        BundleError: the bundle lacks what the backend needs, or a file of it is damaged.
        UsageError: the options do not fit the bundle, or the repository cannot be written to.
        MissingDependencyError: tritonclient or ONNX Runtime is not installed.
    """

    def write() -> Written:
        opened = Bundle.open(bundle)
        name = options.name or opened.manifest.model.name
        named = replace(options, name=name)
        version = version_from_bundle(opened, named)
        return write_model(repository, name, config_text(version, named), version.files)

    return read_whole(bundle, write)
