"""Stages of stored results, as arrays or pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxim_deploy._files import sha256_of
from maxim_deploy.checkpoints.archive import Archive, Header
from maxim_deploy.errors import ImageError, UsageError, quoted, shown, some_of
from maxim_deploy.imaging import to_unit
from maxim_deploy.imaging.files import read_image
from maxim_deploy.machine.memory import available_bytes
from maxim_deploy.parity.comparison import Pixels
from maxim_deploy.parity.pictures import Sample, image_files
from maxim_deploy.parity.stage import Stage
from maxim_deploy.spec.precision import FULL

INPUTS = ("input_u8", "image_u8", "input", "noisy")
OUTPUTS = ("output", "restored")
ENSEMBLE = "ensemble"


class StoredOutputs(Stage):
    """A `.npz` of inputs and outputs, float32 and not clipped.

    One of the keys `input_u8`, `image_u8`, `input` or `noisy`, uint8 or float32 in [0, 1], and one
    of `output` or `restored`, float32; each `[N, H, W, 3]` or `[H, W, 3]`. `ensemble`, if it is
    there, is the output of the self-ensemble.

    Raises:
        ImageError: the file cannot be read, has no such keys, or is larger than the memory.
    """

    precision = FULL
    is_8bit = False

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        try:
            with Archive(path) as archive:
                arrays = self._arrays(archive)
        except (OSError, ValueError, MemoryError) as error:
            raise self._refused(f"cannot be read: {error}") from error
        inputs, outputs = arrays["inputs"], arrays["outputs"]
        self._outputs = dict(self._named(outputs))
        self._ensemble = dict(self._named(arrays["ensemble"])) if "ensemble" in arrays else {}
        self.samples = [Sample(key, image) for key, image in self._named(inputs)]
        self.facts = {"file": path.name, "sha256": sha256_of(path)}

    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """As `Stage.restore`."""
        outputs = self._ensemble if self_ensemble else self._outputs
        if sample.name not in outputs:
            what = "no ensemble of" if self_ensemble else "no"
            raise ImageError(
                f"stored outputs {quoted(self._path)} | have {what} picture {sample.name!r}"
            )
        return to_unit(outputs[sample.name])

    def _arrays(self, archive: Archive) -> dict[str, NDArray[Any]]:
        """The relevant arrays. Headers are checked before data are read."""
        known = [key for key in (*INPUTS, *OUTPUTS, ENSEMBLE) if key in archive.names]
        headers = {key: archive.header(key) for key in known}
        names = {
            "inputs": self._first(archive, headers, INPUTS),
            "outputs": self._first(archive, headers, OUTPUTS),
            **({"ensemble": ENSEMBLE} if ENSEMBLE in headers else {}),
        }
        shapes = {role: headers[key].shape for role, key in names.items()}
        if len({*shapes.values()}) > 1:
            told = ", ".join(f"{role} of {shown(shape)}" for role, shape in shapes.items())
            raise self._refused(f"{told} | expected one shape")
        needed = sum(headers[key].bytes for key in names.values())
        # Asked before any data are read: an allocation that exceeds the memory may succeed, and the
        # process is then killed while the pages fill.
        if needed > (available := available_bytes()):
            raise self._refused(
                f"take {needed / 2**30:,.1f} GiB, and {available / 2**30:,.1f} GiB are available"
            )
        # One key per role. Other arrays of the file, such as intermediate tensors, are not read.
        return {role: archive.array(key) for role, key in names.items()}

    def _first(self, archive: Archive, headers: dict[str, Header], keys: tuple[str, ...]) -> str:
        for key in keys:
            if key in headers and _holds_pictures(headers[key], keys):
                return key
        raise self._refused(
            f"have the keys {some_of([shown(name)[1:-1] for name in archive.names])} | "
            f"expected one of {', '.join(keys)}, [N, H, W, 3] or [H, W, 3], "
            f"{'uint8 or ' * (keys == INPUTS)}float32"
        )

    def _refused(self, why: str) -> ImageError:
        return ImageError(f"stored outputs {quoted(self._path)} | {why}")

    def _named(self, images: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
        stem = self._path.stem
        if images.ndim == 3:
            return [(stem, images)]
        return [(f"{stem}[{k}]" if len(images) > 1 else stem, one) for k, one in enumerate(images)]


def _holds_pictures(header: Header, keys: tuple[str, ...]) -> bool:
    is_known = header.dtype.kind == "f" or (keys == INPUTS and header.dtype == np.uint8)
    return is_known and header.shape[-1:] == (3,) and len(header.shape) in (3, 4)


class Folder(Stage):
    """Pictures in 8 bits, matched by file name without suffix.

    Raises:
        UsageError: there is no image file in the folder.
    """

    precision = FULL
    is_8bit = True

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._files = image_files(path)
        self.facts = {"pictures": len(self._files)}

    @property
    def samples(self) -> list[Sample]:
        """The names, without inputs."""
        return [Sample(name, None) for name in self._files]

    def restore(self, sample: Sample, *, self_ensemble: bool = False) -> Pixels:
        """As `Stage.restore`."""
        if self_ensemble:
            raise UsageError(f"{self.name} has pictures; a network makes a self-ensemble")
        return to_unit(read_image(self.file_of(sample.name)).rgb)

    def file_of(self, name: str) -> Path:
        """The file of the picture of a name.

        Raises:
            ImageError: there is none.
        """
        if name not in self._files:
            raise ImageError(f"folder {quoted(self.name)} | has no picture {name!r}")
        return self._files[name]
