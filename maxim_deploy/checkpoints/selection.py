"""Find the entries of a file that are the weights of a MAXIM, in any trainer's nesting.

Trainers nest weights (`{"state_dict": {"params_ema": ...}}`), add prefixes to names (`model.`,
`net_g.`), and wrap modules, which adds a part to names (`module`, `_orig_mod`). This module has no
list of nestings and prefixes. It looks for a MAXIM's first bias, and takes all entries with the
same nesting and prefix. The rest of the file is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from maxim_deploy.errors import CheckpointError, some_of

PREFIX = "opt/target/"
"""Prefix of the parameters in published files. Other entries are optimiser state."""

BARE = "names without a prefix"

_FIRST_BIAS = re.compile(r"(.*[./])?stage_0_input_conv_0[./]bias")

_TOP_MODULE = re.compile(r"(?<![^./])(stage_\d+_|UpSampleRatio_\d+[./])")
"""First parts of the names of the network's own modules."""

_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)
"""Parts of names that wrappers such as DistributedDataParallel and torch.compile add at any
depth."""

_COUNTERS = frozenset({"n_averaged"})
"""Entries of the wrapper `torch.optim.swa_utils.AveragedModel` that are not weights."""

_AVERAGED = re.compile(r"(?i:(^|[^a-z])ema([^a-z]|$))")

_OPTIMISER = re.compile(r"opt(im\w*|_state\w*)?|mu|nu|exp_avg\w*|momentum\w*")
"""Parts of names that mark optimiser state, whose entries are named like weights."""


_MOST_SETS, _MOST_DICTS, _MOST_DEPTH = 32, 1000, 20
"""Most sets in a file. A pickled dict may contain itself, and each set is compared with all
entries."""


@dataclass(frozen=True)
class Selection:
    """One set of weights in a file.

    Attributes:
        keys: keys of the nested dicts around it, the outermost first.
        prefix: prefix of its names in the file, such as "module.net_g.".
        names: names in the file by the network's names.
        others: other sets of weights in the file, in words.
    """

    keys: tuple[str, ...]
    prefix: str
    names: dict[str, str]
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Its place in the file; empty if the weights have no nesting or prefix."""
        keys = " / ".join(map(repr, self.keys))
        prefix = f"names that begin with {self.prefix!r}"
        return ", ".join(filter(None, [keys, prefix * (self.prefix not in ("", PREFIX))]))

    @property
    def taken(self) -> str:
        """Which set was taken and which sets were not; empty if there is only one."""
        not_taken = f"; not taken: {some_of(self.others, '; ')}" if self.others else ""
        return f"{str(self) or BARE}{not_taken}" if str(self) or self.others else ""

    def in_file(self, name: str) -> str:
        """The name of a parameter in the file, whether or not it exists there."""
        return self.names.get(name, self.prefix + name)

    @property
    def is_average(self) -> bool:
        """Whether it is a moving average, which restores better than the last weights."""
        return any(map(_AVERAGED.search, [*self.keys, self.prefix]))

    @property
    def is_optimiser_state(self) -> bool:
        """Whether it is optimiser state with the names of weights."""
        parts = [*self.keys, *re.split("[./]", self.prefix)]
        return self.prefix != PREFIX and any(map(_OPTIMISER.fullmatch, parts))


def select_weights(content: Mapping[Any, Any]) -> Selection:
    """The weights in a file's content. A moving average is preferred, then the first set.

    Without a MAXIM's first bias, these are all entries of the largest dict, below `PREFIX` if there
    are any. They serve the error message.

    Args:
        content: arrays by name. PyTorch files may nest dicts.

    Raises:
        CheckpointError: there is only optimiser state, or two entries are the same parameter.
    """
    dicts = list(islice(_dicts(content), _MOST_DICTS))
    selections = (one for keys, entries in dicts for one in _selections(keys, entries))
    sets = list(islice(selections, _MOST_SETS + 1))
    if len(sets) > _MOST_SETS:
        raise CheckpointError(f"it holds more than {_MOST_SETS} sets of weights; save one of them")
    found = [one for one in sets if not one.is_optimiser_state]
    if not found:
        keys, entries = max(dicts, key=lambda each: len(_leaves(each[1])))
        return _selected(keys, entries, _prefix_of_any(_leaves(entries)))
    best = min(found, key=lambda one: not one.is_average)
    others = tuple(str(one) or BARE for one in found if one is not best)
    return replace(best, names=_own_names(best, sets, dict(dicts)[best.keys]), others=others)


def _own_names(
    best: Selection, sets: list[Selection], entries: Mapping[Any, Any]
) -> dict[str, str]:
    """Remove names of other sets, and add those of this set with another prefix."""
    every = set(best.names.values())
    others: set[str] = set()
    for one in sets:
        if one.keys == best.keys and one is not best:
            # With an empty prefix, one set may contain another.
            theirs = set(one.names.values())
            others |= theirs if theirs < every else theirs - every
    own = {short: name for short, name in best.names.items() if name not in others}
    for name in _leaves(entries):
        plain = _without_wrappers(name)
        top = _TOP_MODULE.search(plain)
        if top and name not in others and plain[top.start() :] not in own:
            own.pop(plain, None)
            own[plain[top.start() :]] = name
    return own


def _dicts(content: Mapping[Any, Any], *keys: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield keys, content
    for key, value in content.items():
        if isinstance(value, Mapping) and isinstance(key, str) and len(keys) < _MOST_DEPTH:
            yield from _dicts(value, *keys, key)


def _leaves(entries: Mapping[Any, Any]) -> list[str]:
    return [
        name
        for name, value in entries.items()
        if isinstance(name, str) and not isinstance(value, Mapping)
    ]


def _selections(keys: tuple[str, ...], entries: Mapping[Any, Any]) -> Iterator[Selection]:
    """A set for each prefix of the first bias."""
    for name in _leaves(entries):
        if match := _FIRST_BIAS.fullmatch(_without_wrappers(name)):
            yield _selected(keys, entries, match[1] or "", name)


def _selected(
    keys: tuple[str, ...], entries: Mapping[Any, Any], prefix: str, first: str = ""
) -> Selection:
    """All entries with a prefix, without parts of wrappers. `first` is the file's name of one."""
    names: dict[str, str] = {}
    for name in _leaves(entries):
        plain = _without_wrappers(name)
        if not plain.startswith(prefix) or plain in _COUNTERS:
            continue
        short = plain.removeprefix(prefix)
        if short in names:
            raise CheckpointError(
                f"{names[short]!r} and {name!r} are one parameter of the network; keep one of them"
            )
        names[short] = name
    # With wrappers, for the names of missing parameters.
    in_file = first[: first.rindex("stage_0_input_conv_0")] if first else prefix
    return Selection(keys, in_file, names)


def _prefix_of_any(names: list[str]) -> str:
    if any(name.startswith(PREFIX) for name in names):
        return PREFIX
    if any(name.startswith("opt/") for name in names):
        raise CheckpointError(
            f"none of its {len(names):,} entries is below {PREFIX!r}: this is optimiser state "
            "without parameters; take the file that was saved with them"
        )
    return ""


def _without_wrappers(name: str) -> str:
    separator = "/" if "/" in name else "."
    return separator.join(part for part in name.split(separator) if part not in _WRAPPERS)
