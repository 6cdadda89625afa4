"""What a host's files are made from, and what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy._progress import Progress
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.manifest import Bundle
from maxim_deploy.spec.precision import FULL

if TYPE_CHECKING:
    from maxim_deploy.checkpoints import Checkpoint


@dataclass(frozen=True)
class Wishes:
    """What the options of `maxim-export` ask of a host.

    Attributes:
        precisions: to write, or None for those of the host that the bundle has.
        io_type: type of input and output of the planar form, a precision's name.
        web_runtime: folder with the files of onnxruntime-web, or None.
    """

    precisions: tuple[str, ...] | None = None
    io_type: str = FULL
    web_runtime: Path | None = None


@dataclass(frozen=True)
class Order:
    """What is asked for, and where it comes from: a bundle, or weights where nothing is traced.

    Attributes:
        model: name and provenance.
        architecture: the network's sizes.
        precisions: to write; the host takes each one, and the bundle has it.
        wishes: the options.
        licence: text of the weights' licence, or None if none came with them.
        progress: told what is being done.
        given_bundle: that has the graphs; None where there are only weights.
        read_weights: reads the literal weights.
    """

    model: Descriptor
    architecture: Architecture
    precisions: tuple[str, ...]
    wishes: Wishes
    licence: str | None
    progress: Progress
    given_bundle: Bundle | None
    read_weights: Callable[[], Checkpoint]

    @property
    def bundle(self) -> Bundle:
        """The bundle that has the graphs, for a host that takes graphs."""
        assert self.given_bundle is not None  # the host's row says that it takes graphs
        return self.given_bundle

    @cached_property
    def weights(self) -> Checkpoint:
        """The literal weights.

        Raises:
            BundleError: the bundle was exported without them, or the file has changed.
        """
        return self.read_weights()
