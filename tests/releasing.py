"""The script that checks a release, as a module: `.ci` is no package."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_PATH = Path(__file__).parents[1] / ".ci" / "release_check.py"

_spec = spec_from_file_location("release_check", _PATH)
assert _spec is not None and _spec.loader is not None
release_check = module_from_spec(_spec)
_spec.loader.exec_module(release_check)
