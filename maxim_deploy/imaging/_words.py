"""The words of other libraries' errors, for ours."""

from __future__ import annotations

import os


def reason(error: Exception) -> str:
    """The system's words without the path, or the library's, or at least the type."""
    words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return words or type(error).__name__
