"""Parse and format amounts: bytes, durations and ratios in dB."""

from __future__ import annotations

import math
import re

from maxim_deploy.errors import UsageError

_BYTES = {"": 1, "B": 1} | {
    prefix + unit: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for unit, base in (("", 1000), ("B", 1000), ("i", 1024), ("iB", 1024))
}
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def bytes_from(amount: int | str, what: str) -> int:
    """A number of bytes, from an int or from text like "4GiB", "4Gi", "500 MB", "500M".

    Raises:
        UsageError: it is not an amount, or not positive; the message names `what`.
    """
    return math.ceil(_scaled(amount, _BYTES, what, "4GiB, 500MB, or a number of bytes"))


def seconds_from(amount: float | str, what: str) -> float:
    """A number of seconds, from a number or from text like "90s", "5m", "1h". Raises as above."""
    return _scaled(amount, {"": 1, **_SECONDS}, what, "90s, 5m, 1h, or a number of seconds")


def decibels_from(amount: float | str, what: str) -> float:
    """A number of dB, from a number or from text like "60dB", "60". Raises as above."""
    return _scaled(amount, {"": 1, "dB": 1}, what, "60dB, or a number of dB")


def readable_bytes(number: int) -> str:
    """A number of bytes for people, in decimal units."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= 0.9995 * size:  # values that three digits round up to the next unit
            amount = number / size
            return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:.0f} {unit}"
    return f"{number} bytes"


def readable_seconds(number: float) -> str:
    """A duration for people: "45 ms", "3.2 s", "90 s", "4.5 min", "2.5 h"."""
    # Minutes and hours are used from two on: "90 s" reads better than "1.5 min".
    units = (("h", 3600, 7200), ("min", 60, 120), ("s", 1, 1), ("ms", 1e-3, 0))
    unit, size = next((unit, size) for unit, size, least in units if number >= least)
    amount = number / size
    return f"{amount:.0f} {unit}" if amount >= 9.95 else f"{amount:.1f} {unit}"


def _scaled(amount: float | str, units: dict[str, int], what: str, examples: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(amount))
    known = {unit.lower(): size for unit, size in units.items()}
    if isinstance(amount, bool) or match is None or match[2].lower() not in known:
        raise UsageError(f"{what} must be an amount such as {examples}, not {amount!r}")
    value = float(match[1]) * known[match[2].lower()]
    if value <= 0:
        raise UsageError(f"{what} must be more than zero, not {amount!r}")
    return value
