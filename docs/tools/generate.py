"""Write the generated parts of README and documentation, and the pictures.

    python docs/tools/generate.py            # write
    python docs/tools/generate.py --check    # write nothing; exit code 1 if something is stale

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`, so that pages can be
read without building the site. `PARTS` names what makes each of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import code_tables
import commands
import formats
import llms
import measured
import pictures
import python_names

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

PARTS: dict[str, Callable[[], str]] = {
    "commands": commands.reference,
    "engine settings": code_tables.engine_settings,
    "formats": formats.reference,
    "gpus": measured.gpus,
    "images": code_tables.images,
    "memory": measured.memory,
    "models": measured.models,
    "models in short": measured.models_in_short,
    "profiles": code_tables.profiles,
    "proof": measured.proof,
    "python": python_names.names,
    "python reference": python_names.reference,
    "rewrites": code_tables.rewrites,
    "speed": measured.speed,
    "thresholds": code_tables.thresholds,
    "videos": code_tables.videos,
    "what ran where": code_tables.what_ran_where,
}

_PART = re.compile(r"(<!-- generated: (.+?) -->\n)(?:.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with every generated part made anew."""
    return _PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}\n{found[3]}", text)


def made() -> dict[Path, str]:
    """By file, its content as it should be: pages, pictures and `llms.txt`."""
    pages = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    files = {page: filled(page.read_text("utf-8")) for page in pages}
    files |= {DOCS / "images" / name: draw() for name, draw in pictures.PICTURES.items()}
    files[DOCS / "llms.txt"] = llms.text(DOCS)
    return files


def main() -> int:
    """Write what is stale, or with `--check` only name it."""
    stale = {
        path: text
        for path, text in made().items()
        if not path.exists() or path.read_text("utf-8") != text
    }
    check = "--check" in sys.argv[1:]
    for path, text in stale.items():
        sys.stderr.write(f"{'stale' if check else 'wrote'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.write_text(text, "utf-8")
    if check and stale:
        sys.stderr.write("run: python docs/tools/generate.py\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
