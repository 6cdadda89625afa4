"""Errors that a user can fix.

Every error that we raise on purpose derives from `MaximDeployError`. A command prints it without a
traceback and exits with `exit_code`. Any other exception is our bug.
"""

from __future__ import annotations

import concurrent.futures
import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice


class MaximDeployError(Exception):
    """Base of all errors raised on purpose. `exit_code` is 1 for a failure, 2 for wrong usage."""

    exit_code = 1


class UsageError(MaximDeployError, ValueError):
    """An argument is wrong, or two arguments exclude each other."""

    exit_code = 2


class ImageTooLargeError(UsageError, MemoryError):
    """An image does not fit `max_memory` or the free memory. Nothing was run.

    It is a `UsageError` because `tile` or `max_memory` causes it. A command still exits with 1:
    other images of the folder may fit.
    """

    exit_code = 1


class MissingDependencyError(MaximDeployError, ImportError):
    """An optional dependency is not installed; the message is the pip line."""

    exit_code = 2


class CheckpointError(MaximDeployError):
    """A file of weights cannot be read, or is not a complete MAXIM with finite values."""


class DownloadError(MaximDeployError):
    """A published checkpoint could not be downloaded, or has changed since an earlier download."""


class ImageError(MaximDeployError):
    """An image cannot be read, is of a kind that would lose data, or cannot be written."""


class VideoError(MaximDeployError):
    """A video cannot be read, ends too early, would lose data, or cannot be written."""


class StoreError(MaximDeployError):
    """An object store cannot be reached, or an object cannot be listed, read or written."""


class CancelledError(MaximDeployError, concurrent.futures.CancelledError):
    """The caller cancelled before an image or a file was finished."""


class DeadlineError(MaximDeployError, TimeoutError):
    """An image was not restored within the time that the caller gave it."""


class QueueFullError(MaximDeployError):
    """The queue is full: as many images wait as `queue` allows."""


class PixelRangeWarning(UserWarning):
    """A float32 image seems to have values from 0 to 255 rather than 0 to 1."""

    def __init__(self) -> None:
        super().__init__(
            "a float32 image has a mean above 1, as if its values went from 0 to 255 | float32 "
            "images are expected in [0, 1] | divide it by 255, or pass uint8"
        )


class BundleError(MaximDeployError):
    """A bundle is missing, incomplete, changed on disk or of another format version."""


class ExportError(MaximDeployError):
    """A graph could not be made, or its results differ from the network's."""


class EngineError(MaximDeployError):
    """An engine could not be built, or is not the one that the manifest lists."""


class BackendError(MaximDeployError):
    """A backend cannot be used here, or failed while running."""


class OutOfMemoryError(BackendError, MemoryError):
    """A backend ran out of memory while opening or in a run. Smaller runs may still fit."""


_MOST_CHOICES, _LONGEST_WORD = 2000, 300
"""Longest word for which the nearest is searched: the search costs the product of both lengths."""

_MOST_SHOWN = 200
"""Most characters of a value in a message."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The text " (did you mean 'x'?)" to append to an unknown word, or an empty string."""
    # Wrong capitals are the most common mistake and must not count as differences.
    folded = {choice.casefold(): choice for choice in islice(choices, _MOST_CHOICES)}
    if len(word) > _LONGEST_WORD:
        return ""
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for an unknown name, with the nearest known name and all known names."""
    names = tuple(known)
    return f"unknown {kind} {shown(name)}{nearest(str(name), names)}; known: {', '.join(names)}"


def shown(value: object) -> str:
    """The `repr` of a value, shortened in the middle if it is long."""
    text = repr(value)
    half = _MOST_SHOWN // 2
    return text if len(text) <= _MOST_SHOWN else f"{text[:half]} ... {text[-half:]}"


_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that move the cursor, end a line or change the direction of text."""


def printable(text: str, keep: str = "") -> str:
    r"""Replace control characters by escapes such as `\x1b`, except those in `keep`."""
    return _CONTROLS.sub(
        lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text
    )


def quoted(name: object) -> str:
    """A file name in quotes, always in one line."""
    return f"'{printable(str(name))}'"


def some_of(items: Sequence[str], separator: str = ", ") -> str:
    """The first five items, and the number of the others."""
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return separator.join(items[:5]) + more


def check_known(kind: str, name: object, known: Collection[str]) -> None:
    """Raise an error for an unknown name.

    Raises:
        UsageError: with the message of `unknown`.
    """
    # Compared one by one: a file may hold a list in place of a name, and a list has no hash.
    if name not in tuple(known):
        raise UsageError(unknown(kind, name, known))
