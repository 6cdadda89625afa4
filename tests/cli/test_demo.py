"""`maxim-deploy demo` as a user runs it, with a bundle that is exported already."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from maxim_deploy import export
from maxim_deploy.cli.demo import demo
from maxim_deploy.imaging.files import read_image
from maxim_deploy.spec.models import DEMO

PICTURES = ("noisy.png", "restored.png", "noisy.jpg", "restored-from-jpeg.png")


@pytest.fixture(scope="module")
def ran(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_bundle", lambda _, to, **__: shutil.copytree(demo_bundle, to))
        return CliRunner().invoke(demo, ["-o", str(folder)]), folder


def test_it_ends_with_the_picture_and_the_report(ran: tuple[Result, Path]) -> None:
    result, folder = ran
    assert result.exit_code == 0, result.output
    names = (DEMO, *PICTURES, "before-after.png", "report.html")
    assert result.stdout.splitlines() == [str(folder / name) for name in names]
    assert all((folder / name).exists() for name in names)
    noisy, restored = (read_image(folder / name).rgb for name in PICTURES[:2])
    both = read_image(folder / "before-after.png").rgb
    assert np.array_equal(both, np.concatenate([noisy, restored], axis=1))


def test_it_says_what_the_model_is_for(ran: tuple[Result, Path]) -> None:
    result, _ = ran
    gains = [float(gain) for gain in re.findall(r"([+-]\d+\.\d\d) dB", result.stderr)]
    assert 11 < gains[0] < 12.5 and 2.5 < gains[1] < 4, result.stderr
    assert "removes noise from pictures that were not compressed" in result.stderr
    assert "export a published model" in result.stderr


def test_the_report_is_one_file_with_the_numbers(ran: tuple[Result, Path]) -> None:
    result, folder = ran
    page = (folder / "report.html").read_text("utf-8")
    for line in result.stderr.splitlines():
        if " dB before, " in line:
            assert line.partition(": ")[2] in page
    assert page.count("data:image/webp;base64,") == 4
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", page)
    assert "$" not in re.sub(r"<(style|script)>.*?</\1>|\$\{", "", page, flags=re.DOTALL)
    assert "removes noise from pictures that were not compressed" in page
