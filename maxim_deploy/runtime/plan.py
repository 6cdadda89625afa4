"""The plan of a `Restorer` for an image."""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.spec.quantities import readable_bytes, readable_seconds


@dataclass(frozen=True)
class Plan:
    """How an image will be run.

    Attributes:
        height: of the image.
        width: of the image.
        padded: height and width that the network processes or that tiles cover.
        tile: height and width of a tile, to which smaller images are padded; None to run whole.
        overlap: least number of pixels that tiles share.
        tiles: number of tiles; 1 if it runs whole.
        batch: images, or tiles of one image, in a run of the network.
        bytes: peak memory: on a CPU in addition to the process's present memory, on a GPU of the
            device.
        limit: available bytes, or None if unknown.
        backend: name of the backend, such as "onnxruntime".
        precision: precision inside the graph.
        largest_side: side of the largest square image that would run whole within the limit.
        lanes: number of images of this size that run at a time on a CPU: at most the chosen number,
            and as many as fit the limit. A single image runs alone.
        self_ensemble: whether it runs in eight orientations.
        seconds: expected time of a single image in the network, by measurements on this machine;
            None without any.
        lane_seconds: expected time of each of several concurrent images.
    """

    height: int
    width: int
    padded: tuple[int, int]
    tile: tuple[int, int] | None
    overlap: int
    tiles: int
    batch: int
    bytes: int
    limit: int | None
    backend: str
    precision: str
    largest_side: int = 0
    lanes: int = 1
    self_ensemble: bool = False
    seconds: float | None = None
    lane_seconds: float | None = None

    @property
    def images(self) -> int:
        """The number of images that run together if there are several."""
        return 1 if self.tiles > 1 else self.batch

    @property
    def how(self) -> str:
        """Whole or in tiles, in words."""
        how = "whole"
        if self.tile:
            sides = f"{self.tile[0]}x{self.tile[1]}"
            how = f"padded to {sides}"
        if self.tile and self.tiles > 1:
            how = f"{self.tiles} tiles of {sides} that share {self.overlap} pixels"
        if self.batch > 1:
            how += f", {self.batch} at a time"
        return how

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" of {readable_bytes(self.limit)}"
        return (
            f"{self.height}x{self.width}: {self.how}, {readable_bytes(self.bytes)}{limit} "
            f"({self.backend}, {self.precision}), {self._how_long}; the largest square image that "
            f"runs whole: {self.largest_side}x{self.largest_side}"
        )

    @property
    def _how_long(self) -> str:
        """The expected time and the handling of several images, in words."""
        words = "time unknown: run maxim-bench --recommend"
        if self.seconds is not None:
            words = f"about {readable_seconds(self.seconds)}"
        if self.lanes > 1:
            words += f"; of several {self.lanes} at a time in {readable_bytes(self.lanes_bytes)}"
            if self.lane_seconds is not None:
                words += f", {readable_seconds(self.lane_seconds)} each"
        return words

    @property
    def lanes_bytes(self) -> int:
        """Memory of all images that run at a time."""
        return self.lanes * self.bytes
