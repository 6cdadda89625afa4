"""Sites that `--for web` writes: with stand-ins for the runtime's files, or with the real ones."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from maxim_deploy.hosts import web_runtime
from maxim_deploy.hosts.order import Wishes
from maxim_deploy.hosts.table import HOSTS
from maxim_deploy.hosts.writing import order_from_bundle, write_for_host
from maxim_deploy.spec.bundle import Bundle

WEB = HOSTS["web"]
VARIABLE = "MAXIM_DEPLOY_TEST_WEB_RUNTIME"


def write_site(bundle: Path, runtime: Path | None, folder: Path) -> Path:
    """As `maxim-export BUNDLE --for web --web-runtime RUNTIME -o FOLDER`."""
    wishes = Wishes(web_runtime=runtime)
    WEB.check(wishes)
    order = order_from_bundle(Bundle.open(bundle), WEB, wishes, lambda _: None)
    write_for_host(WEB, order, folder)
    return folder


def stand_ins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few bytes for each of the runtime's files, which are pinned for the test."""
    folder.mkdir()
    for name in web_runtime.SHA256:
        content = f"// stand-in for {name}\n".encode()
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(web_runtime.SHA256, name, digest)
    return folder


def real_runtime() -> Path:
    """The folder with the real files; skips the test where there is none."""
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get(VARIABLE) or root / web_runtime.FOLDER)
    if not folder.is_dir():
        pytest.skip(f"no onnxruntime-web: run {web_runtime.COMMAND}, or set ${VARIABLE}")
    return folder
