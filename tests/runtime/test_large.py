"""A photograph of 3840x2160 through S-2 in 6 GiB, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import reference

from maxim_deploy.export import export_bundle
from maxim_deploy.export.settings import BundleSettings

SCRIPT = """
import json, pathlib, sys
import numpy
import maxim_deploy
from maxim_deploy.machine.memory import peak_resident_bytes, resident_bytes
from maxim_deploy.imaging.files import read_image
photo = read_image(pathlib.Path(sys.argv[2])).rgb
mirrored = numpy.concatenate([photo, photo[:, ::-1]], axis=1)
both = numpy.concatenate([mirrored, mirrored[::-1]])
image = numpy.tile(both, (4, 5, 1))[:2160, :3840]
with maxim_deploy.load(sys.argv[1], precision="fp32", max_memory="6GiB") as restorer:
    before, planned = resident_bytes(), restorer.plan(2160, 3840).bytes
    restored = restorer(image)
print(json.dumps(dict(
    shape=restored.shape, planned=planned, taken=peak_resident_bytes() - before,
    whole=peak_resident_bytes(),
)))
"""


@pytest.mark.extended
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_s2_at_3840x2160_in_6_gib(tmp_path: Path, record_property) -> None:
    settings = BundleSettings(precision=("fp32",), io=("tensor",), source=False)
    bundle, _ = export_bundle(reference.checkpoint("S-2"), tmp_path / "S-2", settings)
    photo = Path(__file__).parents[2] / "maxim_deploy" / "assets" / "chelsea.png"
    command = [sys.executable, "-c", SCRIPT, str(bundle.path), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    memory = json.loads(done.stdout)
    record_property("memory", memory)
    assert memory["shape"] == [2160, 3840, 3]
    assert memory["whole"] <= 6 * 2**30
    assert abs(memory["planned"] / memory["taken"] - 1) < 0.1, memory
