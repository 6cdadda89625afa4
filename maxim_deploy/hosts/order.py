"""Input and options for a host's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from maxim_deploy._progress import Progress
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.precision import FULL

if TYPE_CHECKING:
    from maxim_deploy.checkpoints import Checkpoint


@dataclass(frozen=True)
class Wishes:
    """Options of `maxim-export` for a host.

    Attributes:
        precisions: precisions to write, or None for the host's precisions that the bundle has.
        io_type: type of input and output of the planar form, a precision's name.
        web_runtime: folder with the files of onnxruntime-web, or None.
    """

    precisions: tuple[str, ...] | None = None
    io_type: str = FULL
    web_runtime: Path | None = None


@dataclass(frozen=True)
class Order:
    """The requested files and their source: a bundle, or weights without tracing.

    Attributes:
        model: name and provenance.
        architecture: architecture of the network.
        precisions: precisions to write. Host and bundle support each one.
        wishes: the options.
        licence: licence text of the weights, or None.
        progress: called with each step in words.
        given_bundle: bundle with the graphs; None if there are only weights.
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
        """The bundle with the graphs, for a host that takes graphs."""
        assert self.given_bundle is not None  # the host's row requires graphs
        return self.given_bundle

    @cached_property
    def weights(self) -> Checkpoint:
        """The literal weights.

        Raises:
            BundleError: the bundle was exported without them, or the file has changed.
        """
        return self.read_weights()
