"""Parts of the report of `maxim-bench` beside its records."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy import runtime
from maxim_deploy._optional import require
from maxim_deploy._records import read_lines
from maxim_deploy.errors import UsageError
from maxim_deploy.spec.decoding import decoded

if TYPE_CHECKING:
    from maxim_deploy.benchmarks.report.pictures import BeforeAfter

MOST_PICTURES = 6
"""Most pictures. Each is in the page four times and lossless, so more would make it too large."""


def parity_lines(file: Path) -> list[dict[str, Any]]:
    """The lines that `maxim-parity --json` wrote.

    Raises:
        UsageError: the file cannot be read, or a line has another format.
    """
    return read_lines(file, "parity", _parity_line)


def _parity_line(line: Any) -> dict[str, Any]:
    from maxim_deploy.benchmarks.record_types import Parity, check_numbers

    try:
        parity: dict[str, Any] = decoded(Parity, line, "line")
        check_numbers(parity, "line")
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"this was not written by `maxim-parity BUNDLE --json`: {error}"
        ) from error
    return parity


def check_writable(report: Path) -> None:
    """Raise before anything is measured.

    Raises:
        UsageError: the file cannot be written there.
        MissingDependencyError: the library for reports is not installed.
    """
    for module in ("jinja2", "matplotlib"):
        require(module, "bench")
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=report.parent):
            if report.is_dir():
                raise IsADirectoryError(f"{str(report)!r} is a folder")
    except OSError as error:
        raise UsageError(f"cannot write a report to {str(report)!r}: {error}") from error


def check_pictures(folder: Path) -> None:
    """Raise before anything is measured.

    Raises:
        UsageError: there are no images.
        ImageError: an image that will be shown cannot be read.
    """
    from maxim_deploy.parity.pictures import samples_in

    for _ in islice(samples_in(_inputs_in(folder), None), MOST_PICTURES):
        pass


def restored_pictures(folder: Path, bundle: Path) -> list[BeforeAfter]:
    """The first pictures of a folder, before and after restoration.

    Args:
        folder: folder of images, or with `input/` and `target/` as for `maxim-parity --dataset`.
        bundle: the bundle that restores them.

    Raises:
        UsageError: there are no images, or a target has another size.
        ImageError: a file cannot be read.
    """
    from maxim_deploy.benchmarks.report.pictures import BeforeAfter
    from maxim_deploy.imaging.files import read_image
    from maxim_deploy.parity.pictures import image_files, samples_in

    inputs = _inputs_in(folder)
    has_targets = inputs != folder and (folder / "target").is_dir()
    targets = image_files(folder / "target") if has_targets else {}
    pictures = []
    with runtime.load(bundle) as restorer:
        for sample in islice(samples_in(inputs, None), MOST_PICTURES):
            before, target = _in_8_bits(sample.pixels), None
            if sample.name in targets:
                target = _in_8_bits(read_image(targets[sample.name]).rgb)
            pictures.append(BeforeAfter(sample.name, before, restorer(before), target))
    return pictures


def _inputs_in(folder: Path) -> Path:
    return folder / "input" if (folder / "input").is_dir() else folder


def _in_8_bits(image: NDArray[Any]) -> NDArray[Any]:
    from maxim_deploy.imaging.pixels import from_unit, to_unit

    return from_unit(to_unit(image), np.dtype(np.uint8))
