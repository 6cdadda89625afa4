"""Check values read from JSON and TOML.

Programs write JSON, so a wrong value means a damaged file: it is checked by the types that
dataclasses declare. People write TOML, so each key has a reader that says what is wrong and what is
expected.
"""

from __future__ import annotations

import codecs
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

from maxim_deploy._reading import check_depth, read_bounded
from maxim_deploy.errors import UsageError, check_known, shown, unknown

T = TypeVar("T")
Reader = Callable[[str, Any], Any]
"""Takes a key and its value. Returns the parsed value, or raises `UsageError`."""


def read_toml(path: Path, what: str, take: Callable[[dict[str, Any]], T]) -> T:
    """The result of `take` on a TOML file.

    Args:
        path: the file.
        what: what the file is, for messages.
        take: gets the file's top table, and may raise `UsageError`.

    Raises:
        UsageError: the file cannot be read, is not TOML, or `take` refuses it.
    """
    try:
        content = read_bounded(path, _MOST_BYTES)
        return take(_table_of(_text_of(content)))
    # Each step raises a `ValueError`; `UsageError` is one.
    except (OSError, ValueError) as error:
        raise UsageError(f"{what} {str(path)!r}: {error}") from error


_MOST_BYTES = 2**20
"""The largest TOML file that is read. Our longest has 3 kB."""

_MOST_DOTS = 100
"""Most dots in a line of TOML: parsing a dotted key costs the square of its parts."""


def _table_of(text: str) -> dict[str, Any]:
    """The top-level table of a TOML text.

    Raises:
        ValueError: it is not TOML, or nests too deeply.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > _MOST_DOTS:
            raise ValueError(f"line {number} has more than {_MOST_DOTS} dots")
    try:
        table: dict[str, Any] = check_depth(tomllib.loads(text))
    except RecursionError:
        raise ValueError("its brackets nest too deeply") from None
    return table


def _text_of(content: bytes) -> str:
    """Decode text as Notepad and PowerShell save it: UTF-8 or UTF-16, with or without a byte mark.

    Raises:
        UnicodeDecodeError: the text is neither.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def read_table(table: Mapping[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The values of a table, each parsed by its key's reader.

    Raises:
        UsageError: a key has no reader, or a reader refuses a value.
    """
    for key in table:
        check_known("key", key, readers)
    return {key: readers[key](key, value) for key, value in table.items()}


def of_type(kind: type, words: str) -> Reader:
    """A reader that checks the type and returns the value. A bool is not a number."""

    def read(key: str, value: Any) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UsageError(f"{key} must be {words}, not {shown(value)}")
        return value

    return read


read_text = of_type(str, "a string")
read_flag = of_type(bool, "true or false")


SHA256 = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 in the form that every file here uses."""


def read_sha256(key: str, value: Any) -> str:
    """A reader of a SHA-256, in digits of either case."""
    text = read_text(key, value).lower()
    if not SHA256.fullmatch(text):
        raise UsageError(f"{key} must be 64 hexadecimal digits, not {value!r}")
    return str(text)


def read_path(key: str, value: Any) -> Path:
    """A reader of a path. `~` is the user's home."""
    text = read_text(key, value)
    if "\0" in text:
        raise UsageError(f"{key} must be a path, but {shown(text)} has a null character")
    # Not `Path.expanduser`, which raises for an unknown user.
    return Path(os.path.expanduser(text))  # noqa: PTH111


def read_texts(key: str, value: Any) -> tuple[str, ...]:
    """A reader of a list of strings."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{key} must be a list of strings, not {shown(value)}")
    return tuple(value)


def decoded(kind: Any, value: Any, where: str = "it") -> Any:
    """`value` as a `kind`: a dataclass, `TypedDict`, list, tuple, dict, union, or a plain type.

    Args:
        kind: the expected type. A missing field takes its default. A dataclass with a field
            `unknown` keeps unknown keys there; other dataclasses refuse them. A `TypedDict` keeps
            them as they are.
        value: a result of `json.loads` or `dataclasses.asdict`.
        where: name of the value in an error.

    Raises:
        TypeError: it has another type, or an object has an unknown field or lacks one.
    """
    if is_dataclass(kind):
        known = get_type_hints(kind)
        members = _checked(dict, value, where)
        names = stored_fields(kind)
        others = {name: x for name, x in members.items() if name not in names}
        if others and "unknown" not in known:
            raise TypeError(f"{where}: {unknown('key', next(iter(others)), names)}")
        parts = {
            name: decoded(known[name], members[name], f"{where}.{name}")
            for name in names
            if name in members
        }
        kept = {"unknown": others} if others else {}
        return kind(**parts, **kept)  # type: ignore[operator]  # a class, not an instance
    if is_typeddict(kind):
        return _typed_dict(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        plain = next((one for one in arguments if one is type(value)), arguments[0])
        return decoded(plain, value, where)
    if origin in (list, tuple):
        items = list(
            enumerate(_checked(list, list(value) if type(value) is tuple else value, where))
        )
        if origin is tuple and arguments[-1] is not ... and len(items) != len(arguments):
            raise TypeError(f"{where} must have {len(arguments)} items, not {len(items)}")
        return origin(decoded(arguments[0], item, f"{where}[{k}]") for k, item in items)
    if origin is dict:
        members = _checked(dict, value, where).items()
        return {name: decoded(arguments[1], x, f"{where}.{name}") for name, x in members}
    return value if kind is Any else _checked(kind, value, where)


def _typed_dict(kind: Any, value: Any, where: str) -> dict[str, Any]:
    members = _checked(dict, value, where)
    types = get_type_hints(kind)
    for name in types:  # the keys themselves are a set, and a message would name a random one
        if name in kind.__required_keys__ and name not in members:
            raise TypeError(f"{where} has no {name!r}")
    return {
        name: decoded(types.get(name, Any), one, f"{where}.{name}") for name, one in members.items()
    }


def encoded(value: Any) -> dict[str, Any]:
    """The inverse of `decoded` for a dataclass: its fields, and the content of `unknown`."""
    members = asdict(value)
    others: dict[str, Any] = members.get("unknown", {})
    return {name: members[name] for name in stored_fields(value)} | others


NOT_STORED = {"stored": False}
"""`metadata` of a dataclass field that is not stored in the object's own file."""


def stored_fields(kind: Any) -> list[str]:
    """Names of the stored fields of a dataclass, without `unknown`."""
    listed = (one for one in fields(kind) if one.metadata.get("stored", True))
    return [one.name for one in listed if one.name != "unknown"]


def beyond(document: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The keys of a document that `known` lacks, in nested objects too."""
    found = {}
    for key, value in document.items():
        if key not in known:
            found[key] = value
        elif isinstance(value, dict) and (within := beyond(value, known[key])):
            found[key] = within
    return found


def merged(known: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `beyond`."""
    return known | {
        key: merged(known[key], value) if key in known else value for key, value in others.items()
    }


def _checked(kind: type, value: Any, where: str) -> Any:
    # The exact type: a bool is not a number. But a whole float may be written as an int.
    if type(value) is kind or (kind is float and type(value) is int):
        # A larger int overflows when it is converted to a float.
        if type(value) is int and value.bit_length() > _MOST_BITS:
            raise TypeError(f"{where} must have at most {_MOST_BITS} bits, not {shown(value)}")
        return value
    raise TypeError(f"{where} must be of type {kind.__name__}, not {shown(value)}")


_MOST_BITS = 64
