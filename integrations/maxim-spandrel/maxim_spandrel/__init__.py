"""MAXIM for spandrel. Call `register()` once, then load weights as any others."""

from __future__ import annotations

from .architecture import MaximArchitecture, register

__all__ = ["MaximArchitecture", "register"]
