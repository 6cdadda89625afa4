"""Report the content of a bundle, and what runs here."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maxim_deploy._folders import read_whole
from maxim_deploy.engines.layers import layers_beside
from maxim_deploy.engines.traffic import traffic_text
from maxim_deploy.engines.validity import Validity, runs_on, validity_of
from maxim_deploy.errors import BundleError
from maxim_deploy.machine.gpu import Gpu, find_gpu
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.decoding import decoded, encoded
from maxim_deploy.spec.engines import EngineEntry
from maxim_deploy.spec.export_record import EngineRecord
from maxim_deploy.spec.gpus import KNOWN_GPUS, bound_ms, known_gpu
from maxim_deploy.spec.quantities import readable_bytes
from maxim_deploy.spec.traffic import Traffic


def inspect_bundle(folder: Path, *, layers: bool = False) -> dict[str, Any]:
    """A bundle's graphs and engines as plain data.

    Args:
        folder: the bundle.
        layers: whether to add all layers of each engine, if its build listed them.

    Returns:
        `path`, `model`, `variant`, `licence`, `exported`, `graphs`, `engines`, and `gpu`, the GPU
        of this machine or None. `exported` is the header of `export.json`: `created`, `command`,
        `tools`, `machine`, and `problem`, the reason if the file cannot be read. A graph has
        `measured`, see `spec.export_record`. An engine has its manifest entry and its record in
        `export.json`, notes on this machine added to its own, `runs_here`, `reasons` if not,
        `layer_types` (number of layers by output types), and `bounds`: for each record of
        `traffic`, the least milliseconds by the bandwidth of known GPUs, by name. These are not
        measurements.

    Raises:
        BundleError: the folder is not a bundle.
    """
    return read_whole(folder, lambda: _inspected(Bundle.open(folder), layers))


def _inspected(bundle: Bundle, layers: bool) -> dict[str, Any]:
    manifest, gpu = bundle.manifest, find_gpu()
    return {
        "path": str(bundle.path),
        "model": manifest.model.name,
        "variant": manifest.architecture.variant,
        "licence": manifest.model.licence,
        "exported": {
            name: getattr(manifest.export, name)
            for name in ("created", "command", "tools", "machine", "problem")
        },
        "gpu": gpu and {"name": gpu.name, "compute_capability": gpu.compute_capability},
        "graphs": [
            {
                "file": graph.file,
                "precision": graph.precision,
                "io": graph.io,
                "form": graph.form,
                "opset": graph.opset,
                "nodes": graph.nodes,
                "bytes": sum(
                    manifest.files[name]["bytes"] for name in (graph.file, graph.weights) if name
                ),
                "measured": encoded(graph.measured),
            }
            for graph in manifest.graphs
        ],
        "tuned_graphs": [
            {**encoded(one), "measured": encoded(one.measured)} for one in manifest.tuned_graphs
        ],
        "engines": [_engine(bundle, entry, gpu, layers) for entry in manifest.engines],
    }


def _engine(bundle: Bundle, entry: EngineEntry, gpu: Gpu | None, layers: bool) -> dict[str, Any]:
    try:
        validity = validity_of(entry, bundle.read_engine(entry), gpu)
        validity.reasons[:0] = bundle.mismatches(entry)
    except BundleError as error:
        validity = Validity([str(error)])
    listed = layers_beside(bundle.path / entry.file)
    types = Counter("+".join(layer.types) for layer in listed if layer.types)
    record = {
        **encoded(entry.built),
        **encoded(entry),
        "notes": [*entry.notes, *validity.notes],
        "runs_here": not validity.reasons,
        "reasons": validity.reasons,
        "layer_types": dict(types.most_common()),
        "bounds": [_bounds(entry, traffic, gpu) for traffic in entry.built.traffic],
    }
    return {**record, "listed_layers": [*map(asdict, listed)]} if layers else record


def _bounds(entry: EngineEntry, traffic: Traffic, gpu: Gpu | None) -> dict[str, float]:
    """The bounds for this machine's GPU if known, else for those that it was built for."""
    if traffic.shape is None or traffic.bytes_per_pixel is None:
        return {}
    moved = traffic.bytes_per_pixel * traffic.shape.pixels
    here = known_gpu(gpu.name) if gpu else None
    for_it = [one for one in KNOWN_GPUS if runs_on(entry, one.compute_capability)]
    # Counting operations needs the graph and a runtime. Bytes alone also give a bound.
    return {one.name: bound_ms(moved, one.gbps) for one in ([here] if here else for_it)}


def inspection_text(report: dict[str, Any]) -> str:
    """The report of `inspect_bundle` as text."""
    gpu = report["gpu"]
    here = f"{gpu['name']}, compute capability {gpu['compute_capability']}" if gpu else "no GPU"
    lines = [f"{report['path']}: {report['model']}, {report['variant'] or 'custom size'}"]
    lines += [_export_line(report), f"this machine: {here}", "graphs:"]
    lines += [
        f"  {graph['file']}: {graph['form']} form, opset {graph['opset']}, {graph['nodes']} nodes, "
        f"{readable_bytes(graph['bytes'])} with its weights"
        for graph in report["graphs"]
    ]
    lines += [
        f"  {one['file']}: {one['of']} for {one['library']}, {one['nodes']} nodes, the same weights"
        for one in report["tuned_graphs"]
    ]
    lines.append("engines:" if report["engines"] else "engines: none")
    for engine in report["engines"]:
        lines += _engine_lines(engine)
    return "\n".join(lines)


def _export_line(report: dict[str, Any]) -> str:
    exported = report["exported"]
    if exported["problem"] or not exported["created"]:
        return f"exported: {exported['problem'] or 'unknown'}"
    version = exported["tools"].get("maxim-deploy", "of unknown version")
    command = f": {exported['command']}" if exported["command"] else ""
    return f"exported: {exported['created']} by maxim-deploy {version}{command}"


def _engine_lines(engine: dict[str, Any]) -> list[str]:
    entry: EngineEntry = decoded(EngineEntry, engine)
    built: EngineRecord = decoded(EngineRecord, engine)
    seconds = built.build_seconds
    memory = ", ".join(f"{name} {readable_bytes(size)}" for name, size in entry.memory.items())
    types = ", ".join(f"{count} {name}" for name, count in engine["layer_types"].items())
    lines = [
        f"  {entry.file}: {readable_bytes(entry.bytes)}, {entry.library} {entry.version}"
        + ("" if seconds is None else f", built in {seconds:.0f} s"),
        f"    for compute capability {', '.join(entry.targets)}"
        + ("; without weights" if entry.stripped else ""),
        *(f"    profile {profile}" for profile in entry.profiles),
    ]
    lines += [f"    memory as the builder reports it: {memory}"] if memory else []
    lines += [f"    {entry.layers} layers: {types}"] if types else []
    for traffic, bounds in zip(built.traffic, engine["bounds"], strict=True):
        lines += [f"    {line}" for line in [*traffic_text(traffic), *_bound_lines(bounds)]]
    lines += [f"    note: {note}" for note in entry.notes]
    if engine["runs_here"]:
        return [*lines, "    runs here"]
    return [*lines, *(f"    does not run here: {reason}" for reason in engine["reasons"])]


def _bound_lines(bounds: dict[str, float]) -> list[str]:
    times = ", ".join(f"{name.removeprefix('NVIDIA ')} {ms:.3g} ms" for name, ms in bounds.items())
    return [f"  lower bound by bandwidth, not a measurement: {times}"] if bounds else []
