"""Values of options that several commands take."""

from __future__ import annotations

from typing import Any

import click

from maxim_deploy.errors import unknown


class Size(click.ParamType[tuple[int, int]]):
    """`HxW`, both from 1."""

    name = "HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Height and width."""
        sides = str(value).lower().split("x")
        if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
            self.fail(f"{value!r} is not a size; write HxW, such as 256x256", param, ctx)
        return int(sides[0]), int(sides[1])


def known_backend(_ctx: click.Context, _param: click.Parameter, name: str) -> str:
    """The names come from the table of backends, which is not imported for --help."""
    from maxim_deploy.runtime.registry import backend_names

    known = ("auto", *backend_names())
    if name not in known:
        raise click.BadParameter(unknown("backend", name, known))
    return name


def number_or_word(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """A number as such, for `load`, which knows the words."""
    return int(value) if value and value.isdecimal() else value
