"""The files of onnxruntime-web that a page needs, with version and hashes.

They are copied from a folder of the user. Nothing is downloaded here. A file with another hash is
refused, because it would run in the browser of every visitor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from maxim_deploy.errors import UsageError

VERSION = "1.30.0"

COMMAND = f"npm install --ignore-scripts --prefix web-runtime onnxruntime-web@{VERSION}"
"""The command that downloads the files."""

FOLDER = "web-runtime/node_modules/onnxruntime-web/dist"
"""The folder of the files after this command."""


@dataclass(frozen=True)
class RuntimeFiles:
    """Files of a backend.

    Attributes:
        module: JavaScript interface.
        glue: module that starts the binary in each thread; `module` loads it.
        binary: the runtime in WebAssembly.
    """

    module: str
    glue: str
    binary: str


BACKENDS = {
    "wasm": RuntimeFiles(
        "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
    ),
    "webgpu": RuntimeFiles(
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
"""Backends by onnxruntime-web's name."""

SHA256 = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": (
        "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": (
        "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28"
    ),
    "ort-wasm-simd-threaded.asyncify.wasm": (
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da"
    ),
}
"""SHA-256 of each required file of `VERSION`."""


def runtime_files(folder: Path | None) -> dict[str, bytes]:
    """The contents of the runtime's files by name, 41 MB, each with the pinned hash.

    Args:
        folder: the folder `dist` of npm's package onnxruntime-web.

    Raises:
        UsageError: the folder is not given, or files are missing or of another version. The message
            lists all of them, and the command that downloads the right ones.
    """
    how = f"run: {COMMAND} and pass --web-runtime {FOLDER}"
    if folder is None:
        raise UsageError(f"--for web needs the files of onnxruntime-web {VERSION}; {how}")
    contents: dict[str, bytes] = {}
    problems = []
    for name, expected in SHA256.items():
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror}), expected {expected}")
            continue
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != expected:
            problems.append(f"{name} has SHA-256 {found}, expected {expected}")
    if problems:
        raise UsageError(
            f"--web-runtime {str(folder)!r} | {'; '.join(problems)} | expected the files of "
            f"onnxruntime-web {VERSION} | {how}"
        )
    return contents
