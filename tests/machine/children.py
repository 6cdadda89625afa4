"""Scripts in processes of their own, whose memory nothing else has touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def run(script: str, *arguments: object, **env: str) -> dict:
    """A script in a process of its own; what it prints as JSON."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environ = {**os.environ, **env}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
