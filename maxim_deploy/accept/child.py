"""Runs a step in a separate process, because it may hang, crash or exhaust memory.

    python -m maxim_deploy.accept.child FUNCTION SETTING

calls FUNCTION, as "module:function", with a `Setting` that is given as JSON, and prints a line of
JSON: `outcome`, `reason` and `numbers` of an `Outcome`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

from maxim_deploy._optional import missing_dependency
from maxim_deploy.accept.record import FAILED, NOT_RUN, PASSED, publishable, rounded
from maxim_deploy.accept.step import CannotRunError, FaultError, Numbers, Setting
from maxim_deploy.errors import MaximDeployError, MissingDependencyError


def result_of(work: Callable[[], Numbers]) -> dict[str, Any]:
    """Run a step and return `outcome`, `reason` and `numbers`."""
    numbers: Numbers = {}
    try:
        numbers = work()
        outcome, reason = PASSED, None
    except (CannotRunError, MissingDependencyError) as error:
        outcome, reason = NOT_RUN, str(error)
    except FaultError as error:
        outcome, reason, numbers = FAILED, str(error), error.numbers
    except Exception as error:  # an error of a library, or a bug of ours, belongs in the record
        outcome, reason = _of_error(error)
    return {
        "outcome": outcome,
        "reason": reason and publishable(reason),
        "numbers": rounded(numbers),
    }


def _of_error(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModuleNotFoundError) and (told := missing_dependency(error)):
        return NOT_RUN, str(told)
    kind = "" if isinstance(error, MaximDeployError) else f"{type(error).__name__}: "
    return FAILED, f"{kind}{error}"


def called(function: str, setting: Setting) -> Numbers:
    """Import and call "module:function".

    Raises:
        ModuleNotFoundError: a library that the module imports is not installed.
    """
    module, _, name = function.partition(":")
    numbers: Numbers = getattr(importlib.import_module(module), name)(setting)
    return numbers


if __name__ == "__main__":
    setting = Setting(**json.loads(sys.argv[2]))
    result = result_of(lambda: called(sys.argv[1], setting))
    sys.stdout.write(f"\n{json.dumps(result)}\n")
