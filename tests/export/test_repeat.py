"""Equal settings on equal weights give equal bytes, whatever process, time, folder or threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from cli.commands import ROOT, TESTS

from maxim_deploy.export import onnx_from_module
from maxim_deploy.graph.files import save_graph

EXPORT = """
import sys
from pathlib import Path
import reference
from maxim_deploy.export import BundleSettings, export_bundle
from maxim_deploy.spec.architecture import Architecture
checkpoint = reference.random_checkpoint(Architecture(4, 1, 1, 1))
export_bundle(checkpoint, Path(sys.argv[1]), BundleSettings(), command=sys.argv[1])
"""


@pytest.mark.extended
def test_two_exports(tmp_path: Path) -> None:
    """Both deployment forms are traced in each process: most of the time goes there."""
    folders = []
    for seed, threads, place in (("0", "1", "a/first"), ("4242", "2", "second")):
        environment = {
            **os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", "PYTHONHASHSEED": seed,
            "OMP_NUM_THREADS": threads,
        }  # fmt: skip
        folders.append(tmp_path / place)
        (tmp_path / seed).mkdir()
        subprocess.run(
            [sys.executable, "-c", EXPORT, folders[-1]],
            check=True, env=environment, cwd=tmp_path / seed,
        )  # fmt: skip
    first, second = ({p.name: p.read_bytes() for p in one.iterdir()} for one in folders)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == ["export.json"]
    assert not any(
        str(tmp_path).encode() in x for name, x in first.items() if name != "export.json"
    )


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = torch.nn.Conv2d(3, 3, 9, padding=4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.inner(image)


def test_a_graph_has_no_trace_of_the_process_that_made_it(tmp_path: Path) -> None:
    traced = onnx_from_module(Small())
    save_graph(traced, tmp_path / "g.onnx", "w", {"form": "deployment"})
    model = onnx.load(tmp_path / "g.onnx")
    names = [node.name for node in model.graph.node]
    assert any(name.startswith("inner/Conv") for name in names)
    said = [model.doc_string, model.graph.doc_string, model.producer_version, model.domain]
    assert said == [""] * 4 and model.producer_name == "maxim-deploy"
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("form", "deployment")]
    parts = [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    parts += [*model.graph.input, *model.graph.output]
    assert not any(part.metadata_props or part.doc_string for part in parts)
    content = (tmp_path / "g.onnx").read_bytes()
    for trace in (torch.__version__, str(tmp_path), str(ROOT), ".py", "site-packages"):
        assert trace.encode() not in content
