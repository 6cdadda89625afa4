"""Subjects to measure: files made from random weights, by the name of the subject.

Speed does not depend on what the weights are, as long as nothing becomes zero, infinite or
denormal; so no download is needed and any architecture can be measured.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from maxim_deploy._files import atomic_directory
from maxim_deploy.benchmarks.environment import library_versions
from maxim_deploy.checkpoints import Checkpoint, parameter_shapes, write_safetensors
from maxim_deploy.export import onnx_from_module
from maxim_deploy.export.deployment import DeploymentMaxim, Rewrites
from maxim_deploy.graph import save_graph
from maxim_deploy.model import module_from_checkpoint
from maxim_deploy.spec.architecture import Architecture
from maxim_deploy.spec.descriptor import Descriptor

SEED = 0

_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("spec", "checkpoints", "model", "graph", "export")


def engine_of(subject: str) -> str:
    """The worker's engine that runs a subject."""
    return "pytorch" if subject == "pytorch" else "onnxruntime"


def rewrites_of(subject: str) -> Rewrites | None:
    """The rewrites in a subject; None for the literal network."""
    if subject in ("pytorch", "literal"):
        return None
    if subject == "deployment":
        return Rewrites()
    return Rewrites.only(*() if subject == "none" else (subject,))


def random_checkpoint(architecture: Architecture) -> Checkpoint:
    """Weights that are the same on every machine, of a scale that keeps activations ordinary.

    LayerNorm scales are 1, kernels normal with 0.5 / sqrt(inputs), biases normal with 0.02.
    """
    random = np.random.default_rng(SEED)
    arrays = {}
    for path, shape in parameter_shapes(architecture).items():
        leaf = path.rsplit("/", 1)[-1]
        noise = random.standard_normal(shape, np.float32)
        spread = 0.02 if leaf == "bias" else 0.5 / np.sqrt(np.prod(shape[:-1]))
        arrays[path] = np.ones_like(noise) if leaf == "scale" else noise * np.float32(spread)
    return Checkpoint(arrays, architecture, Descriptor("random"))


def subject_file(subject: str, architecture: Architecture, cache: Path) -> Path:
    """The file that a subject's engine loads, made now unless `cache` has it already.

    A file in the cache is used again only if the architecture, the rewrites, the libraries and the
    source of this package that it was made with are the same.
    """
    folder = cache / _identity(subject, architecture)
    if not folder.exists():
        with atomic_directory(folder) as partial:
            _make(subject, random_checkpoint(architecture), partial)
    return folder / _file_name(subject)


def _file_name(subject: str) -> str:
    return f"{subject}.{'safetensors' if engine_of(subject) == 'pytorch' else 'onnx'}"


def _make(subject: str, checkpoint: Checkpoint, folder: Path) -> None:
    file = folder / _file_name(subject)
    if engine_of(subject) == "pytorch":
        write_safetensors(file, checkpoint)
        return
    literal, rewrites = module_from_checkpoint(checkpoint), rewrites_of(subject)
    module = literal if rewrites is None else DeploymentMaxim(literal, rewrites)
    save_graph(onnx_from_module(module), file, f"{subject}.weights", {"subject": subject})


def _identity(subject: str, architecture: Architecture) -> str:
    sources = hashlib.sha256()
    for room in _ROOMS:
        for file in sorted((_PACKAGE / room).rglob("*.py")):
            sources.update(file.read_bytes())
    facts = [subject, architecture.to_json(), SEED, library_versions(), sources.hexdigest()]
    return f"{subject}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
