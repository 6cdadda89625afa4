"""The type of `progress`: slow functions call it to say what they do."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Called with a few words at the start of each step."""
