"""A file of a bundle is the one that its manifest means, or an error says what it is instead.

A path may be a link: what counts is the content behind it.
"""

from __future__ import annotations

from pathlib import Path

from maxim_deploy._files import sha256_of
from maxim_deploy.errors import BundleError
from maxim_deploy.spec.onnx_locations import weights_files


def unchanged(path: Path, sha256: str, made: str, advice: str) -> Path:
    """`path`, after comparing its content with a recorded hash.

    Args:
        path: of a file, or of a link to one.
        sha256: as recorded.
        made: when it was recorded, for the message: "the export".
        advice: how to get the file that was recorded.

    Raises:
        BundleError: it is missing, cannot be read, or has another hash.
    """
    if path.is_symlink() and not path.exists():
        raise BundleError(
            f"{str(path)!r} is a link to {str(path.readlink())!r}, which is not there: fetch it "
            "with the tool that made the link"
        )
    if not path.is_file():
        raise BundleError(f"{str(path)!r} is missing: {advice}")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise BundleError(f"cannot read {str(path)!r}: {error}") from error
    if found != sha256:
        raise BundleError(
            f"{str(path)!r} has changed since {made}: SHA-256 {found}, the manifest says {sha256}; "
            f"{advice}"
        )
    return path


def weights_in(graph: Path, weights: str | None, advice: str) -> Path:
    """`graph`, after checking that its weights are in the one file that the manifest lists.

    Args:
        graph: the ONNX file.
        weights: the bare name of that file; None for weights in the graph.
        advice: what to do otherwise.

    Raises:
        BundleError: it is not an ONNX file, or it names any other file, whose hash nobody checked.
    """
    try:
        named = weights_files(graph)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{str(graph)!r} is not an ONNX graph ({error}); {advice}") from error
    if strange := named - {weights}:
        expected = repr(weights) if weights else "all weights in the graph"
        raise BundleError(
            f"{str(graph)!r} keeps weights in {min(strange)!r}; expected {expected}, as the "
            f"manifest says; {advice}"
        )
    return graph
