"""The public names of the package, each with the first line of its docstring."""

from __future__ import annotations

import inspect

from tables import angled, table

import maxim_deploy


def names() -> str:
    """A table of them: functions, then classes, then errors."""
    return table(("name", "what it is"), [(f"`{name}`", _first_line(name)) for name in _public()])


def reference() -> str:
    """What lets the site show the docstring of each of them."""
    return "\n\n".join(f"::: maxim_deploy.{name}" for name in _public())


def _public() -> list[str]:
    return sorted((name for name in maxim_deploy.__all__ if name != "__version__"), key=_order)


def _order(name: str) -> tuple[int, str]:
    one = getattr(maxim_deploy, name)
    if inspect.isfunction(one):
        return 0, name
    return 2 if issubclass(one, Exception | Warning) else 1, name


def _first_line(name: str) -> str:
    said = inspect.getdoc(getattr(maxim_deploy, name)) or ""
    return angled(" ".join(said.partition("\n\n")[0].split()))
