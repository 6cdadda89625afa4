"""Values of options that several commands take."""

from __future__ import annotations

from typing import Any

import click


class Size(click.ParamType[tuple[int, int]]):
    """`HxW`, both from 1."""

    name = "HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Height and width."""
        sides = str(value).lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
            self.fail(f"{value!r} is not a size; write HxW, such as 256x256", param, ctx)
        return int(sides[0]), int(sides[1])
