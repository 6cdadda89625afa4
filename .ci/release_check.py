"""Build the wheel and the sdist of a release, check both, and install the wheel into nothing.

    python .ci/release_check.py [--offline] [--output dist]

`RELEASING.md` lists what is checked. Needs the extra `dev`. Exit code 1 names every problem.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_sdist_filename, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
NAME = "maxim-deploy"

IN_SDIST = (
    ".ci/release_check.py",
    "CHANGELOG.md",
    "CITATION.cff",
    "COMPATIBILITY.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "constraints.txt",
    "deploy/slurm-array.sh",
    "docs/guides/web-page.md",
    "engines/README.md",
    "export/README.md",
    "integrations/maxim-spandrel/pyproject.toml",
    "maxim_deploy/assets/demo-denoise.safetensors",
    "pyproject.toml",
    "tests/conftest.py",
)
"""What the sdist must hold, one file at least of each folder."""

REQUIRED = ("Name", "Version", "Summary", "License-Expression", "Requires-Python")
"""Fields of the metadata that an index shows."""


def main() -> int:
    """Build, check and install; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--offline", action="store_true", help="do not install from an index")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder for both files")
    options = parser.parse_args()
    wheel, sdist = build(options.output)
    problems = [*versions_differ(wheel, sdist), *wheel_problems(wheel), *sdist_problems(sdist)]
    if not options.offline and not problems:
        problems += install_problems(wheel)
    for problem in problems:
        print(f"release check: {problem}", file=sys.stderr)
    if not problems:
        print(f"{wheel}\n{sdist}")
    return bool(problems)


def build(folder: Path) -> tuple[Path, Path]:
    """(wheel, sdist), built into an empty folder; the wheel from the sdist, as an index would."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def versions_differ(wheel: Path, sdist: Path) -> Iterator[str]:
    """Files whose version is not the wheel's."""
    version = str(parse_wheel_filename(wheel.name)[1])
    spandrel = ROOT / "integrations/maxim-spandrel/pyproject.toml"
    found = {
        sdist.name: str(parse_sdist_filename(sdist.name)[1]),
        "CHANGELOG.md": first(r"^## ([\d.]+\w*),", ROOT / "CHANGELOG.md"),
        "CITATION.cff": first(r"^version: (\S+)", ROOT / "CITATION.cff"),
        str(spandrel.relative_to(ROOT)): tomllib.loads(spandrel.read_text())["project"]["version"],
    }
    for file, other in found.items():
        if other != version:
            yield f"{file} has version {other} | the wheel has {version} | set both to one number"


def wheel_problems(wheel: Path) -> Iterator[str]:
    """What is wrong with the wheel's files and metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        contents = {name: archive.read(name) for name in names}
    info = metadata.split("/")[0]
    if foreign := {name.split("/")[0] for name in names} - {"maxim_deploy", info}:
        yield f"the wheel holds {', '.join(sorted(foreign))} | expected maxim_deploy and {info}"
    if f"{info}/licenses/LICENSE" not in names:
        yield "the wheel has no LICENSE | add license-files to pyproject.toml"
    yield from metadata_problems(Parser().parsestr(contents[metadata].decode()))
    yield from local_paths(contents)


def metadata_problems(metadata: Message) -> Iterator[str]:
    """What an index would refuse, or show badly."""
    for field in REQUIRED:
        if not metadata[field] or metadata[field] == "UNKNOWN":
            yield f"the metadata has no {field} | set it in pyproject.toml"
    if metadata["Name"] != NAME:
        yield f"the metadata names {metadata['Name']} | expected {NAME}"
    if not str(metadata["Description-Content-Type"]).startswith("text/markdown"):
        yield f"the README is {metadata['Description-Content-Type']} | expected text/markdown"
    if not str(metadata.get_payload()).startswith("# "):
        yield "the metadata has no README | set readme in pyproject.toml"
    for line in metadata.get_all("Requires-Dist", []):
        if Requirement(line).url:
            yield f"{line} is a direct URL, which an index refuses | name a version"


def sdist_problems(sdist: Path) -> Iterator[str]:
    """What is missing from the sdist, and what should not be there."""
    with tarfile.open(sdist) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        contents = {
            member.name.split("/", 1)[1]: file.read()
            for member in files
            if (file := archive.extractfile(member))
        }
    for name in IN_SDIST:
        if name not in contents:
            yield f"the sdist lacks {name} | add it to tool.hatch.build.targets.sdist"
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if listed and (extra := sorted(contents.keys() - {*listed, "PKG-INFO", ".gitignore"})):
        yield f"the sdist holds files that git does not: {', '.join(extra)} | remove them"
    yield from local_paths(contents)


def local_paths(contents: dict[str, bytes]) -> Iterator[str]:
    """Files that name a folder of this machine."""
    places = {str(ROOT).encode(), str(Path.home()).encode()} - {b"/", b"/root", b"/home"}
    for name, data in contents.items():
        for place in places:
            if place in data:
                yield f"{name} names the folder {place.decode()} | remove it"


def install_problems(wheel: Path) -> Iterator[str]:
    """What fails in an empty environment that gets the wheel and what it requires."""
    version = str(parse_wheel_filename(wheel.name)[1])
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        scripts = Path(folder, "Scripts" if sys.platform == "win32" else "bin")
        python = str(scripts / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        commands = {
            "install": [*pip, str(wheel)],
            "--version": [str(scripts / NAME), "--version"],
            "--help": [str(scripts / "maxim-run"), "--help"],
            "import": [python, "-c", "import maxim_deploy; print(maxim_deploy.__version__)"],
        }
        for name, command in commands.items():
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                yield f"{name} fails in an empty environment: {done.stderr.strip()[-500:]}"
            elif name in ("--version", "import") and version not in done.stdout:
                yield f"{name} prints {done.stdout.strip()!r} | expected {version}"


def first(pattern: str, file: Path) -> str:
    """The first match of a pattern in a file, or "none"."""
    found = re.search(pattern, file.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "none"


if __name__ == "__main__":
    sys.exit(main())
