"""Studies of `maxim-bench`: tiles, overhead, rewrites, recommendation and lanes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maxim_deploy._optional import require_extra
from maxim_deploy.benchmarks.overhead import CALLS, ROUNDS, SIZE, THREADS, overhead, soak
from maxim_deploy.benchmarks.suite import read_options
from maxim_deploy.benchmarks.tiles import (
    HEADS,
    OVERLAPS,
    SIGMA,
    TILES,
    cost_of_tiles,
    photo_of,
    row_of,
)
from maxim_deploy.cli import shell
from maxim_deploy.errors import UsageError
from maxim_deploy.runtime import load
from maxim_deploy.runtime.registry import graph_backend
from maxim_deploy.spec.architecture import MULTIPLE_OF


def study_tiles(arguments: Sequence[Path], options: dict[str, Any], *, as_json: bool) -> None:
    """Measure tiles: a row per tile and overlap, or a JSON line per photograph of each.

    Args:
        arguments: a bundle and photographs.
        options: `tile_sizes`, `overlaps` and `sigma` as given.
        as_json: lines `{"tiles": ...}`. A photograph of a single tile has no line.

    Raises:
        UsageError: there is no photograph.
        MaximDeployError: a file cannot be read or restored.
    """
    bundle, *paths = arguments or (Path(),)
    if not paths:
        raise UsageError("name a BUNDLE and photographs: maxim-bench --tiles BUNDLE PHOTO...")
    sigma = SIGMA if options["sigma"] is None else options["sigma"]
    photos = [photo_of(bundle, path, sigma) for path in paths]
    if not as_json:
        shell.emit(HEADS)
    overlaps = options["overlaps"] or OVERLAPS
    # The rest of a tile must contain a step of the grid of tiles.
    tiles = options["tile_sizes"] or TILES
    for tile, overlap in ((t, o) for t in tiles for o in overlaps if o <= t - MULTIPLE_OF):
        shell.say(f"tiles of {tile} with an overlap of {overlap}")
        costs = [cost_of_tiles(bundle, photo, tile, overlap) for photo in photos]
        if not as_json:
            shell.emit(row_of(tile, overlap, costs))
            continue
        for path, cost in zip(paths, costs, strict=True):
            if cost is not None:
                facts = {"photo": str(path), "sigma": sigma, "tile": tile, "overlap": overlap}
                shell.emit(json.dumps({"tiles": facts | asdict(cost)}))


def study_overhead(arguments: Sequence[Path], options: dict[str, Any], *, as_json: bool) -> None:
    """Measure overhead: time over the bare backend, time with threads, memory over many calls.

    Args:
        arguments: a bundle.
        options: `sizes`, `rounds`, `threads` and `calls` as given.
        as_json: one line `{"overhead": ...}`.

    Raises:
        UsageError: there is more or less than one bundle or size, or a number is out of range.
        MaximDeployError: the bundle cannot be opened or run.
    """
    if len(arguments) != 1:
        raise UsageError("name one BUNDLE: maxim-bench --overhead BUNDLE")
    asked = read_options({key: options[key] for key in ("sizes", "rounds", "threads")})
    sizes, rounds = asked.get("sizes", (SIZE,)), asked.get("rounds", ROUNDS)
    if len(sizes) != 1:
        raise UsageError("--overhead takes one --size")
    calls = CALLS if options["calls"] is None else options["calls"]
    height, width = sizes[0]
    backend = graph_backend(on_gpu=False).name
    with load(arguments[0], backend=backend, threads=asked.get("threads")) as restorer:
        shell.say(f"{rounds} rounds of {height}x{width}")
        one, many = overhead(restorer, (height, width), rounds)
        memory = None
        if calls:
            shell.say(f"{calls} calls of mixed sizes")
            memory = soak(restorer, calls)
    if as_json:
        facts = {
            "size": sizes[0],
            "call": asdict(one),
            "threads": THREADS,
            "in_threads": asdict(many),
            "soak": asdict(memory) | {"calls": calls} if memory else None,
        }
        shell.emit(json.dumps({"overhead": facts}))
        return
    shell.emit(f"- Time of a call over the bare backend, {height}x{width} uint8: {one}")
    shell.emit(f"- Time per image with {THREADS} threads over one: {many}")
    if memory:
        shell.emit(
            f"- Resident over {calls} calls of mixed sizes: {memory.begin / 1e6:.0f} MB before, "
            f"{memory.peak / 1e6:.0f} at most, {memory.end / 1e6:.0f} after"
        )


def study_recommend(arguments: Sequence[Path], options: dict[str, Any], *, as_json: bool) -> None:
    """Recommend options for this machine: a table, or a JSON line `{"recommend": ...}`.

    Args:
        arguments: a bundle.
        options: `sizes`, `rounds`, `threads`, `backends` and `precisions` as given.
        as_json: one line.

    Raises:
        UsageError: there is more or less than one bundle or size, or nothing to measure.
        BundleError: the bundle cannot be opened.
        BackendError: nothing runs here.
    """
    from maxim_deploy.benchmarks import recommend

    if len(arguments) != 1:
        raise UsageError("name one BUNDLE: maxim-bench --recommend BUNDLE --size HxW")
    names = ("sizes", "rounds", "threads", "backends", "precisions")
    asked = read_options({key: options[key] for key in names})
    sizes = asked.pop("sizes", (recommend.SIZE,))
    if len(sizes) != 1:
        raise UsageError("--recommend takes one --size")
    found = recommend.recommendation(arguments[0], sizes[0], progress=shell.say, **asked)
    shell.emit(json.dumps({"recommend": found.to_json()}) if as_json else str(found))


def study_lanes(arguments: Sequence[Path], options: dict[str, Any], *, as_json: bool) -> None:
    """Measure the gain of lanes for a folder: text, or JSON lines `{"lanes": ...}`.

    Args:
        arguments: a bundle.
        options: `sizes`, `rounds`, `threads` and `pictures_of_folder` as given.
        as_json: a line for each state of the machine.

    Raises:
        UsageError: there is more or less than one bundle or size.
        MaximDeployError: the bundle cannot be opened or run.
    """
    from maxim_deploy.benchmarks import folder_lanes

    if len(arguments) != 1:
        raise UsageError("name one BUNDLE: maxim-bench --lanes BUNDLE")
    asked = read_options({key: options[key] for key in ("sizes", "rounds", "threads")})
    sizes = asked.get("sizes", (folder_lanes.SIZE,))
    if len(sizes) != 1:
        raise UsageError("--lanes takes one --size")
    count = options["pictures_of_folder"] or folder_lanes.COUNT
    rounds, threads = asked.get("rounds", folder_lanes.ROUNDS), asked.get("threads")
    for is_busy in (False, True):
        gain = folder_lanes.gain_of_lanes(
            arguments[0], sizes[0], count, rounds, threads, is_busy=is_busy, progress=shell.say
        )
        line = json.dumps({"lanes": gain.to_json()})
        shell.emit(line if as_json else str(gain))


def study_rewrites(arguments: Sequence[Path], options: dict[str, Any], *, as_json: bool) -> None:
    """Measure rewrites: a row per choice, or a JSON line for each.

    Args:
        arguments: a bundle with its literal weights.
        options: `sizes` as given; one, of multiples of 64.
        as_json: lines `{"rewrites": ...}`.

    Raises:
        UsageError: there is more or less than one bundle or size, or the size is not a multiple of
            64.
        MaximDeployError: a library is missing, or an engine cannot be built.
    """
    if len(arguments) != 1:
        raise UsageError("name one BUNDLE: maxim-bench --rewrites BUNDLE")
    require_extra("export")
    from maxim_deploy.benchmarks import rewrites
    from maxim_deploy.checkpoints import read_source
    from maxim_deploy.model import module_from_checkpoint
    from maxim_deploy.spec.bundle import Bundle

    sizes = read_options({"sizes": options["sizes"]}).get("sizes", (rewrites.SIZE,))
    if len(sizes) != 1 or any(side % MULTIPLE_OF for side in sizes[0]):
        raise UsageError(f"--rewrites takes one --size, of multiples of {MULTIPLE_OF}")
    network = module_from_checkpoint(read_source(Bundle.open(arguments[0])))
    if not as_json:
        shell.emit(rewrites.HEADS)
    for cost in rewrites.cost_of_rewrites(network, sizes[0], shell.say):
        line = json.dumps({"rewrites": asdict(cost)})
        shell.emit(line if as_json else rewrites.row_of(cost))
