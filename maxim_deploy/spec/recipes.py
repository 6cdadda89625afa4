"""Recipes: what to export, as a TOML file.

    model = "deblurring-gopro"   # a known name
    # or checkpoint = "FILE", relative to the recipe; "~/FILE" is in the user's home
    sha256 = "64 hexadecimal digits"   # that the file of weights must have
    precision = ["fp32", "fp16"]
    io = ["image", "tensor"]

Each key is optional. Options of `maxim-export` override a recipe's. `variant` is also accepted and
checked against the weights. The table `[engine]` requests an engine, see
`maxim_deploy.spec.engine_settings`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.spec.decoding import (
    Reader,
    read_path,
    read_sha256,
    read_table,
    read_text,
    read_texts,
    read_toml,
)
from maxim_deploy.spec.precision import FULL, PRECISIONS

IO_FORMS = ("image", "tensor", "planar")
"""Forms of input and output that can be exported; see `GraphEntry.io`."""

RUNTIME_FORMS = ("image", "tensor")
"""The forms for engines and the runtime, which an export makes by default. The planar form is for
other programs."""

IO_TYPES = (FULL, "fp16")
"""Types of the planar form's input and output, named as precisions, the default first."""


@dataclass(frozen=True)
class ExportRecipe:
    """The export that a recipe file requests; None for each key that it omits."""

    model: str | None = None
    checkpoint: Path | None = None
    variant: str | None = None
    precision: tuple[str, ...] | None = None
    io: tuple[str, ...] | None = None
    sha256: str | None = None

    def over(self, base: ExportRecipe) -> ExportRecipe:
        """This recipe, with the values of `base` for missing keys.

        A model named here uses its own weights.

        A hash belongs to the weights of the same recipe.
        """
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in own.items() if value is not None}
        if self.model is not None and self.checkpoint is None:
            given["checkpoint"] = None
        if self.model is not None or self.checkpoint is not None:
            given["sha256"] = self.sha256
        return replace(base, **given)


def chosen(kind: str, names: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """`names` without duplicates, each checked against `known`.

    Raises:
        UsageError: `names` is empty, or a name is unknown; the message lists the known ones.
    """
    for name in names:
        check_known(kind, name, known)
    if not names:
        raise UsageError(f"no {kind} is chosen; known: {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def read_export_recipe(path: Path) -> ExportRecipe:
    """Read and check a recipe.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or a wrong value.
    """
    recipe = read_toml(path, "recipe", _recipe_from_table)
    return replace(recipe, checkpoint=recipe.checkpoint and path.parent / recipe.checkpoint)


def _recipe_from_table(table: dict[str, Any]) -> ExportRecipe:
    table.pop("engine", None)  # `read_engine_recipe` reads and checks it
    return ExportRecipe(**read_table(table, _READERS))


_READERS: dict[str, Reader] = {
    "model": read_text,
    "checkpoint": read_path,
    "variant": read_text,
    "sha256": read_sha256,
    "precision": lambda key, value: chosen("precision", read_texts(key, value), PRECISIONS),
    "io": lambda key, value: chosen("io form", read_texts(key, value), IO_FORMS),
}
