"""`llms.txt`: every page with its first sentence, for programs that read documentation."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = """\
# maxim-deploy

> MAXIM image restoration (denoising, deblurring, deraining, dehazing, enhancement), from \
published checkpoints to PyTorch, ONNX, TensorRT engines and a runtime. Each step is measured.
"""

SECTIONS = {"": "Start", "guides": "Guides", "concepts": "Concepts", "reference": "Reference"}
"""Folders in the order of reading."""


def text(docs: Path) -> str:
    """The content of `llms.txt`."""
    parts = [HEAD]
    for folder, heading in SECTIONS.items():
        pages = sorted((docs / folder).glob("*.md"))
        parts.append(f"## {heading}\n\n" + "".join(_line(docs, page) for page in pages))
    return "\n".join(parts)


def _line(docs: Path, page: Path) -> str:
    title, first = title_and_first_sentence(page.read_text("utf-8"))
    return f"- [{title}]({page.relative_to(docs).as_posix()}): {first}\n"


def title_and_first_sentence(markdown: str) -> tuple[str, str]:
    """Of a page: its heading, and the first sentence of its first paragraph of prose."""
    body = re.sub(r"<!-- generated: .+?<!-- end -->", "", markdown, flags=re.DOTALL)
    blocks = [block.strip() for block in body.split("\n\n")]
    title = next(block[2:] for block in blocks if block.startswith("# "))
    prose = next((block for block in blocks if block[:1].isalnum() or block[:1] in "`*["), title)
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(prose.split()))
    return title, re.split(r"(?<=[.?:])\s", plain)[0]
