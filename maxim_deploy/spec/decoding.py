"""Values read from JSON to the types that dataclasses declare, each checked."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints


def decoded(kind: Any, value: Any, where: str = "it") -> Any:
    """`value` as a `kind`: a dataclass, list, tuple, dict or union of such, or a plain type.

    Args:
        kind: what it must be; a field that an object does not have takes its default.
        value: of what `json.loads` or `dataclasses.asdict` make.
        where: what to call the value in an error.

    Raises:
        TypeError: it is of another type, or an object has a field that is unknown or lacks one.
    """
    if is_dataclass(kind):
        known = get_type_hints(kind)
        members = _checked(dict, value, where)
        for name in members.keys() - {field.name for field in fields(kind)}:
            raise TypeError(f"{where} has an unknown {name!r}")
        parts = {name: decoded(known[name], x, f"{where}.{name}") for name, x in members.items()}
        return kind(**parts)  # type: ignore[operator]  # a class, not one of its instances
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        plain = next((one for one in arguments if one is type(value)), arguments[0])
        return decoded(plain, value, where)
    if origin in (list, tuple):
        items = enumerate(_checked(list, list(value) if type(value) is tuple else value, where))
        return origin(decoded(arguments[0], item, f"{where}[{k}]") for k, item in items)
    if origin is dict:
        members = _checked(dict, value, where).items()
        return {name: decoded(arguments[1], x, f"{where}.{name}") for name, x in members}
    return value if kind is Any else _checked(kind, value, where)


def _checked(kind: type, value: Any, where: str) -> Any:
    # Exactly: a bool is no number of anything. But a float that is whole may be written as an int.
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise TypeError(f"{where} must be of type {kind.__name__}, not {value!r}")
