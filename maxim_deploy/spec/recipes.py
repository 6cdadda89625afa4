"""Recipes: what to export, as a TOML file.

    model = "deblurring-gopro"   # a known name; or checkpoint = "FILE", relative to the recipe
    precision = ["fp32", "fp16"]
    io = ["image", "tensor"]

Every key is optional on its own; `maxim-export` options override a recipe's. `variant` is accepted
too and then checked against the weights. The table `[engine]` asks for an engine as well, see
`maxim_deploy.spec.engine_settings`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.spec.precision import PRECISIONS

IO_FORMS = ("image", "tensor")
"""Forms of input and output that can be exported; see `GraphEntry.io`."""


@dataclass(frozen=True)
class ExportRecipe:
    """The export that a recipe file asks for; None where it is silent."""

    model: str | None = None
    checkpoint: Path | None = None
    variant: str | None = None
    precision: tuple[str, ...] | None = None
    io: tuple[str, ...] | None = None

    def over(self, base: ExportRecipe) -> ExportRecipe:
        """This recipe, with `base` where it is silent; a model named here means its own weights."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in own.items() if value is not None}
        if self.model is not None and self.checkpoint is None:
            given["checkpoint"] = None
        return replace(base, **given)


def chosen(kind: str, names: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """`names` without repetitions, each checked against `known`.

    Raises:
        UsageError: nothing is chosen, or something unknown; the message lists the known ones.
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
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        table.pop("engine", None)  # `read_engine_recipe` reads and checks it
        return _recipe_from_table(table, path.parent)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, UsageError) as error:
        raise UsageError(f"recipe {str(path)!r}: {error}") from error


def _recipe_from_table(table: dict[str, Any], folder: Path) -> ExportRecipe:
    known = tuple(field.name for field in fields(ExportRecipe))
    for key, value in table.items():
        check_known("key", key, known)
        is_list = key in ("precision", "io")
        texts = value if is_list and isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts) or is_list != isinstance(value, list):
            raise UsageError(f"{key} must be {'a list of strings' if is_list else 'a string'}")
    checkpoint = table.get("checkpoint")
    return ExportRecipe(
        model=table.get("model"),
        checkpoint=folder / checkpoint if checkpoint else None,
        variant=table.get("variant"),
        precision=chosen("precision", table["precision"], PRECISIONS)
        if "precision" in table
        else None,
        io=chosen("io form", table["io"], IO_FORMS) if "io" in table else None,
    )
