"""What a `Restorer` says of how it would run an image."""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.spec.quantities import readable_bytes, readable_seconds


@dataclass(frozen=True)
class Plan:
    """How one image will be run.

    Attributes:
        height: of the image.
        width: of the image.
        padded: height and width that the network sees, or that tiles cover.
        tile: height and width of a tile, to which smaller images are padded up; None to run whole.
        overlap: pixels that tiles share at least.
        tiles: into how many it is cut; 1 if it runs whole.
        batch: images, or tiles of one image, that one run of the network takes.
        bytes: memory that this takes at most: of the process in addition to what it has now on a
            CPU, of the device on a GPU.
        limit: bytes that there are for it, or None if nobody knows.
        backend: "onnxruntime" and so on.
        precision: inside the graph.
        largest_side: of the largest square image that would run whole within the limit.
        lanes: of several such images, how many run at a time on a CPU: as many as were chosen, and
            as `bytes` of each fit the limit. A single one runs alone.
        self_ensemble: whether it runs in eight orientations.
        seconds: that a single one is expected to take in the network, from what was measured on
            this machine; None if nothing was.
        lane_seconds: likewise for each of several, side by side.
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
        """Of several images, how many are done together."""
        return 1 if self.tiles > 1 else self.batch

    @property
    def how(self) -> str:
        """Whole, or in which tiles, in words."""
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
        """The expected time, in words, and how several images are run."""
        words = "time not measured yet: run maxim-bench --recommend"
        if self.seconds is not None:
            words = f"about {readable_seconds(self.seconds)}"
        if self.lanes > 1:
            words += f"; of several {self.lanes} at a time in {readable_bytes(self.lanes_bytes)}"
            if self.lane_seconds is not None:
                words += f", {readable_seconds(self.lane_seconds)} each"
        return words

    @property
    def lanes_bytes(self) -> int:
        """Memory of as many such images as run at a time."""
        return self.lanes * self.bytes
