"""Short reasons from the errors of other libraries."""

from __future__ import annotations

import os


def reason(error: Exception) -> str:
    """The system's message without the path, or the library's message, or at least the type."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    # Errors of libav have a text without the code and the function's name.
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
