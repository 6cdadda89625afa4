"""What a version of a model consists of, for each backend of Triton."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxim_deploy.errors import UsageError
from maxim_deploy.machine.processors import usable_processors
from maxim_deploy.runtime import load
from maxim_deploy.serving.triton.ends import IMAGE_ENDS, Ends, ends_of_graph
from maxim_deploy.serving.triton.engines import engine_for_triton, tuned_sizes, warmup_sizes
from maxim_deploy.serving.triton.options import MAX_BATCH, SIZES, ModelOptions, Sizes
from maxim_deploy.serving.triton.parts import (
    Part,
    bytes_part,
    engine_part,
    file_part,
    graph_parts,
)
from maxim_deploy.serving.triton.settings import MAX_MEMORY, PRECISION, THREADS
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.export_record import EXPORT_RECORD
from maxim_deploy.spec.manifest import LICENCE_FILE, MANIFEST, GraphEntry
from maxim_deploy.spec.precision import CPU_PRECISIONS, GPU_PRECISIONS

MODEL_PY = '''\
"""A bundle of maxim-deploy in Triton's python backend."""

from pathlib import Path

from maxim_deploy.serving.triton.python_model import PythonModel


class TritonPythonModel(PythonModel):
    """The bundle beside this file."""

    bundle = Path(__file__).parent / "bundle"
'''
"""The file that Triton's python backend looks for."""

GPU_LANES = 2
"""Instances on each GPU: one computes while the pictures of the other travel."""


@dataclass(frozen=True)
class Version:
    """A version of a model, before it is written.

    Attributes:
        files: by path in the version's folder.
        fields: of `config.pbtxt` that depend on the backend: `backend` or `platform`, parameters.
        ends: of the model, as `config.pbtxt` is to say.
        graph_ends: of the graph in it, read from the file; the same, or the model is not written.
        max_batch: requests in one execution at most.
        instances: on the CPU, or on each GPU.
        sizes: (height, width) of pictures to warm up with.
        profiles: of an engine that an instance may use, by index.
        is_ragged: whether pictures of different sizes may be in one execution.
    """

    files: Mapping[str, Part]
    fields: Mapping[str, Any]
    ends: Ends
    graph_ends: Ends
    max_batch: int
    instances: int
    sizes: Sizes
    profiles: tuple[str, ...] = ()
    is_ragged: bool = False


def version_from_bundle(bundle: Bundle, options: ModelOptions) -> Version:
    """A version for the backend that the options name.

    Raises:
        BundleError: the bundle lacks what the backend needs, or a file of it is damaged.
        UsageError: the options ask for what the bundle's engine cannot do.
    """
    versions = {
        "python": python_version,
        "onnxruntime": onnxruntime_version,
        "tensorrt": tensorrt_version,
    }
    return versions[options.backend](bundle, options)


def python_version(bundle: Bundle, options: ModelOptions) -> Version:
    """`model.py` and a copy of the bundle: all its graphs and engines, without literal weights."""
    manifest = bundle.manifest
    names = [MANIFEST, EXPORT_RECORD, LICENCE_FILE]
    names += [name for one in manifest.graphs for name in (one.file, one.weights) if name]
    names += [one.file for one in manifest.tuned_graphs]
    files = {f"bundle/{name}": part for name in names if (part := file_part(bundle, name))}
    for engine in manifest.engines:
        files[f"bundle/{engine.file}"] = engine_part(bundle, engine)
    parameters = {
        PRECISION: options.precision,
        THREADS: options.threads,
        MAX_MEMORY: options.max_memory,
        "EXECUTION_ENV_PATH": options.environment,
    }
    images = [one for one in manifest.graphs if one.io == "image"]
    # Not every engine takes a picture of the usual size.
    usual = tuned_sizes(manifest.engines[-1]) if options.gpus and manifest.engines else SIZES
    return Version(
        {"model.py": bytes_part(MODEL_PY.encode()), **files},
        {"backend": "python", "parameters": parameters},
        IMAGE_ENDS,
        # Pictures reach the tensor form by our own code, which is of the image form outside.
        ends_of_graph(bundle, images[0]) if images else IMAGE_ENDS,
        options.max_batch or MAX_BATCH,
        options.instances or 1,
        options.sizes or usual,
        is_ragged=True,
    )


def onnxruntime_version(bundle: Bundle, options: ModelOptions) -> Version:
    """The graph of the image form, weights beside it in the folder that ONNX Runtime opens."""
    entry = _image_graph(bundle, options)
    graph, weights = graph_parts(bundle, entry)
    files = {"model.onnx": graph}
    if weights:
        # With external weights the backend wants a folder of the file's name.
        files = {"model.onnx/model.onnx": graph, f"model.onnx/{entry.weights}": weights}
    instances, threads = options.instances or 1, None
    if not options.is_on_gpu:
        instances, threads = _lanes_of(bundle, options)
    return Version(
        files,
        {"backend": "onnxruntime", "parameters": {"intra_op_thread_count": threads}},
        IMAGE_ENDS,
        ends_of_graph(bundle, entry),
        options.max_batch or MAX_BATCH,
        instances,
        options.sizes or SIZES,
    )


def tensorrt_version(bundle: Bundle, options: ModelOptions) -> Version:
    """The newest engine of TensorRT, with all of its profiles.

    Raises:
        BundleError: there is none of this precision that Triton can run.
    """
    engine = engine_for_triton(bundle, options)
    most = max(profile.max.batch for profile in engine.profiles)
    if options.max_batch is not None and options.max_batch > most:
        raise UsageError(
            f"--max-batch {options.max_batch} | the engine {engine.file!r} takes batches of at "
            f"most {most} | build one with --profile ...@{options.max_batch}, or ask for less"
        )
    ends = ends_of_graph(bundle, bundle.graph(engine.precision, engine.io))
    return Version(
        {"model.plan": engine_part(bundle, engine)},
        {"platform": "tensorrt_plan"},
        ends,
        ends,
        options.max_batch or most,
        options.instances or GPU_LANES,
        warmup_sizes(engine, options),
        tuple(str(index) for index in range(len(engine.profiles))),
    )


def _image_graph(bundle: Bundle, options: ModelOptions) -> GraphEntry:
    best_first = GPU_PRECISIONS if options.is_on_gpu else CPU_PRECISIONS
    wanted = best_first if options.precision == "auto" else (options.precision,)
    have = {one.precision: one for one in bundle.manifest.graphs if one.io == "image"}
    found = next((have[name] for name in wanted if name in have), None)
    return found or bundle.graph(wanted[0], "image")  # which says what there is instead


def _lanes_of(bundle: Bundle, options: ModelOptions) -> tuple[int, int]:
    """(instances, threads of each) that give the most pictures per second on this machine."""
    processors = usable_processors()
    if options.instances is None and options.threads is None:
        with load(bundle.path, backend="onnxruntime", precision=options.precision) as restorer:
            instances = min(restorer.choose_lanes(*size) for size in options.sizes or SIZES)
        return instances, max(1, processors // instances)
    if options.instances is None:
        assert options.threads is not None
        return max(1, processors // options.threads), options.threads
    return options.instances, options.threads or max(1, processors // options.instances)
