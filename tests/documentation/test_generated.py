"""Parts of pages that are made from code and records are current."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from documentation.pages import DOCS, ROOT, text_of


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Not by `python_process`: the script imports its neighbours.
    return subprocess.run(
        [sys.executable, str(DOCS / "tools" / "generate.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_generated_parts_are_current() -> None:
    done = generate("--check")
    assert done.returncode == 0, done.stderr


def test_a_stale_part_is_found(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "tools"))
    import generate as tool

    page = text_of("docs/concepts/profiles.md")
    assert tool.filled(page) == page
    assert tool.filled(page.replace("| `720p` | 704", "| `720p` | 703")) == page


def test_environment_variables_are_listed() -> None:
    """Every variable of ours that the code or the tests read."""
    files = [*(ROOT / "maxim_deploy").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    named = {
        name
        for path in files
        for name in re.findall(
            r"\"(MAXIM_DEPLOY_\w+|ORT_DISABLE_TELEMETRY)\"", path.read_text("utf-8")
        )
    }
    listed = set(re.findall(r"`([A-Z_]{4,})`", text_of("docs/reference/environment.md")))
    assert named <= listed


def test_the_picture_is_what_the_demo_makes(demo_bundle) -> None:
    """Noisy on the left, restored on the right, but for what JPEG loses."""
    import maxim_deploy
    from maxim_deploy.hosts.sample import noisy_photograph
    from maxim_deploy.parity import psnr

    _, noisy = noisy_photograph()
    with maxim_deploy.load(demo_bundle) as restorer:
        made = np.concatenate([noisy, restorer(noisy)], axis=1)
    shown = maxim_deploy.read_image(DOCS / "images" / "before-after.jpg").rgb
    assert shown.shape == made.shape
    middle = made.shape[1] // 2  # JPEG keeps noise badly
    assert psnr(shown[:, middle:], made[:, middle:], peak=255) > 35
    assert psnr(shown[:, :middle], made[:, :middle], peak=255) > 22


def test_every_extra_is_documented() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = text_of("docs/reference/install.md")
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert set(extras["optional-dependencies"]) == set(listed)
