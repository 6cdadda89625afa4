"""What a `Restorer` says of how it would run an image."""

from __future__ import annotations

from dataclasses import dataclass

from maxim_deploy.spec.quantities import readable_bytes


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
            f"({self.backend}, {self.precision}); the largest square image that runs whole: "
            f"{self.largest_side}x{self.largest_side}"
        )
