"""The reference of file formats, from the docstrings of the modules that read and write them."""

from __future__ import annotations

import re
from importlib import import_module

from tables import angled, attributes_of, table

_FORMATS = (
    # heading, module, classes whose attributes are keys
    ("`manifest.json` of a bundle", "spec.manifest", ("GraphEntry",)),
    ("Engines in the manifest", "spec.engines", ("EngineEntry",)),
    ("Tuned graphs in the manifest", "spec.tuned_graphs", ("TunedGraph",)),
    ("`export.json` of a bundle", "spec.export_record", ("GraphRecord", "EngineRecord")),
    ("Traffic of an engine", "spec.traffic", ("Traffic",)),
    ("`.maxim-run.jsonl` beside results", "jobs.record", ()),
    ("Records of `maxim-bench`", "benchmarks.records", ()),
    ("Profiles of `maxim-bench --layers`", "benchmarks.profile.profile", ()),
    ("Records of `maxim-deploy accept`", "accept.record", ()),
)


def reference() -> str:
    """A section for each format."""
    return "\n\n".join(_section(*row) for row in _FORMATS)


def _section(heading: str, name: str, classes: tuple[str, ...]) -> str:
    module = import_module(f"maxim_deploy.{name}")
    parts = [f"## {heading}", _text(module.__doc__ or "")]
    for one in classes:
        keys = attributes_of(getattr(module, one))
        rows = [(f"`{key}`", angled(said)) for key, said in keys.items() if key != "unknown"]
        parts += [f"Keys of `{one}`:", table(("key", "content"), rows)]
    parts.append(f"Source: `maxim_deploy/{name.replace('.', '/')}.py`")
    return "\n\n".join(parts)


def _text(doc: str) -> str:
    # Continuation lines of a list stand below its text in a docstring, and need no indent here.
    lines = [re.sub(r"^  (?=\S)", "  ", line) for line in doc.strip().splitlines()]
    return angled("\n".join(lines))
