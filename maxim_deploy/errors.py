"""What can go wrong that a user can put right.

Everything raised on purpose derives from `MaximDeployError`; a command prints it without a
traceback and exits with `exit_code`. Any other exception is a bug of ours.
"""

from __future__ import annotations

import concurrent.futures
import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice


class MaximDeployError(Exception):
    """Base of all errors raised on purpose. `exit_code`: 1 something failed, 2 usage."""

    exit_code = 1


class UsageError(MaximDeployError, ValueError):
    """An argument is wrong, or two that are right do not go together."""

    exit_code = 2


class ImageTooLargeError(UsageError, MemoryError):
    """An image cannot be restored within `max_memory`, or in the memory there is; nothing was run.

    A `UsageError` because `tile` or `max_memory` asks for it, but not for a command: the other
    images of a folder may fit.
    """

    exit_code = 1


class MissingDependencyError(MaximDeployError, ImportError):
    """An optional dependency is not installed; the message is the pip line."""

    exit_code = 2


class CheckpointError(MaximDeployError):
    """A file of weights cannot be read, or is not a complete and finite MAXIM."""


class DownloadError(MaximDeployError):
    """A published checkpoint could not be fetched, or changed since it was."""


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
    """As many images wait as `queue` allows; this one was not taken."""


class PixelRangeWarning(UserWarning):
    """A float32 image looks like levels from 0 to 255, where 0 to 1 is expected."""

    def __init__(self) -> None:
        super().__init__(
            "a float32 image is brighter than 1 on average, as if its levels went from 0 to 255 | "
            "float32 images are expected in [0, 1] | divide it by 255, or pass uint8"
        )


class BundleError(MaximDeployError):
    """A bundle is missing, incomplete, changed on disk or of another format version."""


class ExportError(MaximDeployError):
    """A graph could not be made, or does not compute what the network computes."""


class EngineError(MaximDeployError):
    """An engine could not be built, or is not the one that the manifest says."""


class BackendError(MaximDeployError):
    """A backend cannot be used here, or failed while running."""


class OutOfMemoryError(BackendError, MemoryError):
    """A backend ran out of memory while it opened, or on one run; smaller runs may still fit."""


_MOST_CHOICES, _LONGEST_WORD = 2000, 300
"""Of a search for the nearest word, which takes the product of the lengths for each choice."""

_MOST_SHOWN = 200
"""Characters of a value in a message."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """A ready " (did you mean 'x'?)" to put behind an unknown word, or an empty string."""
    # People mistype capitals most of all, and they would count as differences.
    folded = {choice.casefold(): choice for choice in islice(choices, _MOST_CHOICES)}
    if len(word) > _LONGEST_WORD:
        return ""
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that is not among the known ones: the nearest of them, and all."""
    names = tuple(known)
    return f"unknown {kind} {shown(name)}{nearest(str(name), names)}; known: {', '.join(names)}"


def shown(value: object) -> str:
    """A value as Python writes it, cut in the middle where it is long."""
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
    """A name of a file in quotes, in one line whatever is in it."""
    return f"'{printable(str(name))}'"


def some_of(items: Sequence[str], separator: str = ", ") -> str:
    """The first five in words, and how many more there are."""
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return separator.join(items[:5]) + more


def check_known(kind: str, name: object, known: Collection[str]) -> None:
    """Refuse a name that is not among the known ones.

    Raises:
        UsageError: with the message of `unknown`.
    """
    # Compared one by one, for a list that a file has in place of a name has no hash.
    if name not in tuple(known):
        raise UsageError(unknown(kind, name, known))
