"""Makes the files that subjects load: bundles, engines in them, and graphs from their weights.

A model without a bundle gets a bundle of random weights, in the cache. Speed does not depend on the
weights as long as no activation becomes zero, infinite or denormal. So no download is needed, and
any architecture can be measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from maxim_deploy._files import sha256_of_sources
from maxim_deploy._folders import atomic_directory
from maxim_deploy.benchmarks.subjects import LITERAL, NONE, PLAIN, RULES, TORCH, Subject
from maxim_deploy.checkpoints import (
    Checkpoint,
    open_model,
    parameter_shapes,
    read_source,
)
from maxim_deploy.export import BundleSettings, export_bundle, onnx_from_module
from maxim_deploy.export.deployment import DeploymentMaxim, Rewrites
from maxim_deploy.graph.files import load_graph, save_graph
from maxim_deploy.graph.onnxruntime_form.form import onnxruntime_form
from maxim_deploy.machine.facts import library_versions
from maxim_deploy.model import module_from_checkpoint
from maxim_deploy.spec.architecture import VARIANTS, Architecture
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.descriptor import Descriptor
from maxim_deploy.spec.precision import FULL

SEED = 0

_GRAPH = f"{FULL}.tensor.onnx"

_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("spec", "checkpoints", "model", "graph", "export")


def random_checkpoint(architecture: Architecture) -> Checkpoint:
    """Random weights, the same on every machine, scaled so that activations stay ordinary.

    LayerNorm scales are 1. Kernels are normal with standard deviation 0.5 / sqrt(inputs), biases
    normal with 0.02.
    """
    random = np.random.default_rng(SEED)
    arrays = {}
    for path, shape in parameter_shapes(architecture).items():
        leaf = path.rsplit("/", 1)[-1]
        noise = random.standard_normal(shape, np.float32)
        spread = 0.02 if leaf == "bias" else 0.5 / np.sqrt(np.prod(shape[:-1]))
        arrays[path] = np.ones_like(noise) if leaf == "scale" else noise * np.float32(spread)
    name = f"{architecture.variant or 'small'} random"
    return Checkpoint(arrays, architecture, Descriptor(name))


def model_bundle(
    model: str | Architecture,
    precisions: tuple[str, ...],
    cache: Path,
    progress: Callable[[str], None],
    *,
    verify: bool = False,
) -> Bundle:
    """The bundle of a named model or of random weights, exported unless `cache` has it.

    A cached bundle is used again only if it was made with the same precisions, libraries and source
    of this package. With `verify` the bundle is verified and so stores the memory of its runs;
    without, that is left to the exporter.

    Raises:
        UsageError, DownloadError, ExportError, BundleError: the bundle cannot be made.
    """
    architecture = VARIANTS.get(model) if isinstance(model, str) else model
    settings = BundleSettings(precisions, ("image", "tensor"), verify=verify)
    identity = _identity(architecture.to_json() if architecture else model, settings.to_json())
    folder = cache / f"{getattr(architecture, 'variant', model) or 'small'}-{identity}"
    if not folder.exists():
        checkpoint = random_checkpoint(architecture) if architecture else open_model(str(model))
        export_bundle(checkpoint, folder, settings, progress=progress)
    return Bundle.open(folder)


def baseline_file(
    subject: Subject, bundle: Bundle, cache: Path, progress: Callable[[str], None]
) -> Path:
    """The file of a baseline: the bundle, a graph from its literal weights, or its plain graph.

    Raises:
        BundleError: the bundle has no literal weights, or no float32 graph of the tensor form.
        ExportError: the graph cannot be made.
    """
    if subject.name == PLAIN:
        return bundle.checked_graph(bundle.graph(FULL, "tensor"))
    if subject.name in RULES:
        return _with_one_rule(subject.name, bundle, cache)
    checkpoint = read_source(bundle)
    if subject.name in TORCH:
        return bundle.path
    digest = bundle.manifest.files[str(bundle.manifest.source)]["sha256"]
    folder = cache / f"{subject.name}-{_identity(digest, subject.name)}"
    if not folder.exists():
        progress(f"exporting {subject.name}")
        literal = module_from_checkpoint(checkpoint)
        rewrites = _rewrites(subject.name)
        module = literal if rewrites is None else DeploymentMaxim(literal, rewrites)
        with atomic_directory(folder) as partial:
            graph = partial / _GRAPH
            save_graph(
                onnx_from_module(module), graph, f"{FULL}.weights", {"subject": subject.name}
            )
    return folder / _GRAPH


def _with_one_rule(name: str, bundle: Bundle, cache: Path) -> Path:
    """The plain graph with a single rule of the form for ONNX Runtime."""
    entry = bundle.graph(FULL, "tensor")
    folder = cache / f"{name}-{_identity(bundle.digests(entry), name)}"
    if not folder.exists():
        with bundle.private_graph(entry) as plain, atomic_directory(folder) as partial:
            model = onnxruntime_form(load_graph(plain), (name,))
            save_graph(model, partial / _GRAPH, f"{FULL}.weights", {"subject": name})
    return folder / _GRAPH


def _rewrites(name: str) -> Rewrites | None:
    """The rewrites in a baseline's graph; None for the literal network."""
    return None if name == LITERAL else Rewrites.only(*() if name == NONE else (name,))


def _identity(*facts: object) -> str:
    sources = sha256_of_sources(*(_PACKAGE / room for room in _ROOMS))
    text = json.dumps([*facts, SEED, library_versions(), sources])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
