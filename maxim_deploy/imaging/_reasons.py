"""The words of other libraries' errors, for ours."""

from __future__ import annotations

import os


def reason(error: Exception) -> str:
    """The system's words without the path, or the library's, or at least the type."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    # Errors of libav have words of their own, without its code and the name of a function.
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
