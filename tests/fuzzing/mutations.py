"""Damage, the same for the same seed: of bytes, of texts made of values, of members of a zip."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**31, 10**30, 10**400, float("inf"), float("nan"), "", "x",
    "\0\n\x1b[2J", "\ud800", "../../etc", [], {}, [[]], [None], {"": None}, "y" * 5000, [0] * 2000,
)  # fmt: skip
"""That take the place of one in a text."""

_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63, 2**64 - 1)


def of_bytes(content: bytes, chance: random.Random) -> bytes:
    """One to four changes at random places."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        if chance.random() < 0.4:  # headers stand at the beginning
            at = chance.randrange(min(len(data), 300) + 1)
        _change(data, at, chance)
    return bytes(data)


def _change(data: bytearray, at: int, chance: random.Random) -> None:
    length = chance.choice((1, 2, 4, 8))
    kind = chance.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at : at + length] = chance.randbytes(length)
    elif kind == 2:
        value = chance.choice(_INTEGERS) & ((1 << 8 * length) - 1)
        data[at : at + length] = value.to_bytes(length, chance.choice(("little", "big")))
    elif kind == 3:
        data[at:at] = chance.randbytes(length)
    elif kind == 4:
        del data[at : at + chance.choice((1, 4, 100))]
    elif kind == 5:
        start = chance.randrange(len(data) + 1)
        data[at:at] = data[start : start + chance.randrange(200)]
    else:
        del data[at:]


def of_json(content: bytes, chance: random.Random) -> bytes:
    """One value of one line is another one, has gone, or lies in a thousand brackets."""
    text = content.decode()
    is_list_of_lines = text.startswith("{") and "\n{" in text
    lines = text.splitlines() if is_list_of_lines else [text]
    number = chance.randrange(len(lines))
    document = json.loads(lines[number])
    place = _place(document, chance)
    kind = chance.random()
    if place is None or kind < 0.05:
        lines[number] = json.dumps(chance.choice(_VALUES))
    elif kind < 0.15:
        holder, key = place
        del holder[key]
        lines[number] = json.dumps(document)
    elif kind < 0.2:
        depth = chance.choice((60, 500, 100_000))
        holder, key = place
        holder[key] = "@"
        lines[number] = json.dumps(document).replace('"@"', "[" * depth + "]" * depth)
    else:
        holder, key = place
        holder[key] = chance.choice(_VALUES)
        lines[number] = json.dumps(document)
    return "\n".join(lines).encode() + b"\n"


def _place(document: Any, chance: random.Random) -> tuple[Any, Any] | None:
    """A holder and a key or index in it, each of the document alike."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            places.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])
    return chance.choice(places) if places else None


def of_toml(content: bytes, chance: random.Random) -> bytes:
    """One value, or one key, is another one."""
    text = content.decode()
    matches = list(re.finditer(r'"[^"]*"|\[[^\]\n]*\]|\b\w+\b', text))
    found = chance.choice(matches)
    others = [
        *(json.dumps(value) for value in _VALUES if value is not None),
        "[" * 10_000, "{a=" * 5000, "a." * 3000 + "a", "1979-05-27T07:32:00Z", '"""', "=",
    ]  # fmt: skip
    return (text[: found.start()] + chance.choice(others) + text[found.end() :]).encode(
        "utf-8", "surrogatepass"
    )


def of_zip(content: bytes, chance: random.Random) -> bytes:
    """One member has other bytes, its sum is right, and how it is packed may be another."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = chance.choice(list(members))
    members[name] = of_bytes(members[name], chance)
    if chance.random() < 0.2:
        members[chance.choice((name + "x", "a.npy", "../b.npy", "\x1b.npy"))] = members.pop(name)
    target = io.BytesIO()
    packing = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(target, "w", packing) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return target.getvalue()


def one_of(*mutations: Mutation) -> Mutation:
    """Any of these."""

    def mutated(content: bytes, chance: random.Random) -> bytes:
        return chance.choice(mutations)(content, chance)

    return mutated
