"""Files by their content: named for what they are, and in folders not passed over in silence."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest
from imaging.samples import saved
from inverter import Inverter, picture
from PIL import Image, features

from maxim_deploy.errors import ImageError
from maxim_deploy.imaging.files import read_image
from maxim_deploy.imaging.kinds import skipped_picture
from maxim_deploy.jobs.naming import plan_files


def iso(brand: bytes, *others: bytes) -> bytes:
    brands = brand + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(100)


OTHERS = {
    "HEIC": iso(b"heic", b"mif1"),
    "HEIC, by a general brand": iso(b"mif1", b"heic"),
    "CR3": iso(b"crx "),
    "CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
    "RAF": b"FUJIFILMCCD-RAW 0201",
    "ORF": b"IIRO\x08\0\0\0",
    "RW2": b"IIU\0\x18\0\0\0",
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "Photoshop": b"8BPS\0\1",
    "OpenEXR": b"\x76\x2f\x31\x01\2",
    "Radiance HDR": b"#?RADIANCE\n",
    "GIMP": b"gimp xcf v011",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF": b"%PDF-1.7\n",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "a web page": b"<!DOCTYPE html><html><svg/>",
    "a video (MP4 or QuickTime)": iso(b"isom", b"avc1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_named_whatever_their_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(OTHERS[name])
    with pytest.raises(ImageError, match=r"a\.jpg' \| is .*, which is not read \| \w+") as caught:
        read_image(tmp_path / "a.jpg")
    assert name.split(", by")[0] in str(caught.value)
    assert "damaged" not in str(caught.value)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("name", ["a.avif", "a.jpg"])
def test_avif_is_read(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, Image.new("RGB", (9, 7), (10, 200, 30)), format="AVIF")
    assert abs(read_image(path).rgb.astype(int) - (10, 200, 30)).max() <= 4


def test_avif_that_this_pillow_does_not_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL._avif", None)
    (tmp_path / "a.jpg").write_bytes(iso(b"avif"))
    with pytest.raises(ImageError, match=r"is AVIF, which this build of Pillow does not read"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.heic", OTHERS["HEIC"], "HEIC"),
        ("a", OTHERS["HEIC"], "HEIC"),
        ("a.nef", b"II*\0" + bytes(20), "a .nef file"),
        ("a.psd", b"", "a .psd file"),
        ("a.svg", OTHERS["SVG"], "SVG"),
        ("a.tga", b"\0\0\2", "a .tga file"),
        ("a.bak", b"\x89PNG\r\n\x1a\n", "holds PNG under another suffix | name the file itself"),
        ("a.txt", b"BMW and Porsche", None),
        ("a.txt", b"P1 is the first point", None),
        ("a.html", OTHERS["a web page"], None),
        ("a.pdf", OTHERS["PDF"], None),
        ("a.m4a", iso(b"M4A "), None),
        ("a.json", b"{}", None),
    ],
)
def test_what_looks_like_a_picture(tmp_path: Path, name: str, content: bytes, words) -> None:
    (tmp_path / name).write_bytes(content)
    found = skipped_picture(tmp_path / name)
    assert (found is None) == (words is None)
    assert found is None or found.startswith(words)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.dat")
    assert skipped_picture(tmp_path / "a.dat") is None


def test_skipped_pictures_are_named(folder: Path, caplog) -> None:
    picture("in/a.png")
    Path("in/b.heic").write_bytes(OTHERS["HEIC"])
    Path("in/c.txt").write_text("text")
    plan = plan_files("in", "out")
    assert plan.skipped == 2
    assert list(plan.skipped_pictures) == [Path("in/b.heic")]
    assert "skipped 'in/b.heic': HEIC is not read | convert it" in caplog.text
    assert "c.txt" not in caplog.text


@pytest.mark.parametrize("named", ["in", "in/*"])
def test_strict_makes_them_failures(folder: Path, network: Inverter, caplog, named: str) -> None:
    from cli.running import maxim_run

    picture("in/a.png")
    Path("in/b.heic").write_bytes(OTHERS["HEIC"])
    Path("in/c.txt").write_text("text")
    assert maxim_run(named, "-o", "out").exit_code == 0
    result = maxim_run(named, "-o", "out", "--strict")
    assert result.exit_code == 1
    assert result.stdout == "out/a.png\n"
    assert "failed: image 'in/b.heic' | HEIC is not read | convert it" in result.stderr
    assert "1 restored, 1 failed" in result.stderr
