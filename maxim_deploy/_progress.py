"""How slow functions tell their caller what they do: the parameter is called `progress`."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Is told what is being done, in a few words, as it begins."""
