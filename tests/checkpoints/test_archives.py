"""Archives whose directories and headers claim what their data are not."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from maxim_deploy.checkpoints import archive, read_checkpoint
from maxim_deploy.errors import CheckpointError, ImageError
from maxim_deploy.parity.stored import StoredOutputs

BIAS = "stage_0_input_conv_0/bias"


def npy(header: str, data: bytes = bytes(16)) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def zipped(path: Path, packing: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", packing) as target:
        for name, data in members.items():
            target.writestr(f"{name}.npy", data)
    return path


def header(shape: str = "(4,)", descr: str = "'<f4'", end: str = "}") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {end}"


@pytest.mark.parametrize(
    "content",
    [
        npy(header("(-4,)")), npy(header("(10**30,)")), npy(header(f"({10**25},)")),
        npy(header("(4,)", end="")), npy(header("(4,)", end="[1]: 2}")), npy(header("4")),
        npy(header("(0, 4)")), npy(header("(4,)", "'|V0'")), npy(header("(2,)", "'|O'")),
        npy("(" * 9000), b"", b"\x93NUMPY\x09\x00" + bytes(50), npy(header(), bytes(15)),
    ],
    ids=["negative", "expression", "overflow", "cut", "list as key", "no tuple", "nothing in it",
         "no bytes", "objects", "brackets", "empty", "version", "short"],
)  # fmt: skip
def test_headers_that_cannot_be(tmp_path: Path, content: bytes) -> None:
    path = zipped(tmp_path / "w.npz", **{BIAS: content})
    with pytest.raises(CheckpointError, match=f"entry '{BIAS}' is damaged or not a plain array"):
        read_checkpoint(path)
    path = zipped(tmp_path / "s.npz", output=content, input_u8=content)
    with pytest.raises(ImageError, match="stored outputs"):
        StoredOutputs("a", path)


def test_nothing_is_decompressed_before_names_and_shapes_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive.Archive, "array", lambda *_: pytest.fail("data were read"))
    zeros = npy(header("(1000, 1000)"), bytes(4_000_000))
    blocks = "stage_0_encoder_block_0/SplitHeadMultiAxisGmlpLayer_0/x"
    names = {BIAS: npy(header()), blocks: zeros, "stage_0_global_block_0/x": zeros}
    with pytest.raises(CheckpointError, match="not a complete MAXIM"):
        read_checkpoint(zipped(tmp_path / "w.npz", **names))
    with pytest.raises(ImageError, match="have the keys junk"):
        StoredOutputs("a", zipped(tmp_path / "s.npz", junk=zeros))


def test_a_network_of_300_stages_is_refused_in_a_line(tmp_path: Path) -> None:
    blocks = ("encoder_block_0/SplitHeadMultiAxisGmlpLayer_0", "global_block_0")
    names = [f"stage_{k}_{block}/x" for k in range(300) for block in blocks]
    path = zipped(tmp_path / "w.npz", **dict.fromkeys([BIAS, *names], npy(header())))
    with pytest.raises(CheckpointError, match="at most 6 stages") as caught:
        read_checkpoint(path)
    assert len(str(caught.value)) < 500


def test_a_thousand_sets_of_weights(tmp_path: Path) -> None:
    names = [f"{k}/{BIAS}" for k in range(1000)]
    with pytest.raises(CheckpointError, match="more than 32 sets"):
        read_checkpoint(zipped(tmp_path / "w.npz", **dict.fromkeys(names, npy(header()))))


def test_the_directory_of_a_zip_is_bounded(tmp_path: Path, monkeypatch) -> None:
    path = zipped(tmp_path / "w.npz", **{f"{k}": b"" for k in range(100)})
    monkeypatch.setattr(archive, "_MOST_DIRECTORY", 1000)
    with pytest.raises(CheckpointError, match="directory has more than 1,000 bytes"):
        read_checkpoint(path)


def test_a_pytorch_file_is_not_compressed(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            target.writestr(member, source.read(member))
    with pytest.raises(CheckpointError, match="is compressed, which torch.save never does"):
        read_checkpoint(tmp_path / "w.pt")


def test_a_dict_that_contains_itself(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    content: dict[str, object] = {"a": torch.zeros(1)}
    content["self"] = content
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="this is not a"):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("damage", ["method", "encrypted", "stream"])
def test_members_that_cannot_be_unpacked(tmp_path: Path, damage: str) -> None:
    pictures = npy(header("(1, 8, 8, 3)"), bytes(768))
    path = zipped(tmp_path / "s.npz", output=pictures, input_u8=pictures)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark) + place
        if damage == "encrypted":
            content[at] |= 1
        elif damage == "method":
            content[at + 2] = 99
    if damage == "stream":
        start = 30 + len("output.npy")
        content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(ImageError, match="stored outputs"):
        StoredOutputs("a", path)
