"""`maxim-export`: export a checkpoint to a bundle."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maxim_deploy._optional import require, require_extra
from maxim_deploy._progress import Progress
from maxim_deploy.cli import shell
from maxim_deploy.cli._engine import build, check_build, engine_options, engine_settings, split_list
from maxim_deploy.cli._hosts import (
    folder_named,
    host_options,
    write_from_bundle,
    write_from_weights,
)
from maxim_deploy.errors import BundleError, UsageError
from maxim_deploy.hosts.order import Wishes
from maxim_deploy.hosts.table import Host, host_named
from maxim_deploy.hosts.writing import check_free
from maxim_deploy.spec.architecture import architecture_of
from maxim_deploy.spec.bundle import Bundle
from maxim_deploy.spec.decoding import read_sha256
from maxim_deploy.spec.descriptor import LICENCE
from maxim_deploy.spec.export_record import command_without_folders, read_bounded
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.models import MODEL_NAMES, check_model_name
from maxim_deploy.spec.precision import (
    AUTO,
    AUTO_RANGE,
    DEFAULT_PRECISIONS,
    FORM_CHOICES,
    FULL,
    PRECISIONS,
)
from maxim_deploy.spec.recipes import (
    IO_FORMS,
    RUNTIME_FORMS,
    ExportRecipe,
    chosen,
    read_export_recipe,
)

if TYPE_CHECKING:
    from maxim_deploy.checkpoints import Checkpoint
    from maxim_deploy.export import BundleSettings
    from maxim_deploy.spec.engine_settings import EngineSettings


@click.command("maxim-export")
@click.argument("model", required=False)
@click.option(
    "-o",
    "--output",
    type=shell.PATH,
    metavar="BUNDLE",
    help="Directory to write, or the bundle that gets an engine.",
)
@click.option(
    "--checkpoint",
    type=shell.PATH,
    metavar="FILE",
    help="Your own weights: .npz as published, .safetensors, .pt or .pth. MODEL is then optional "
    "and only names them.",
)
@click.option(
    "--sha256",
    metavar="DIGITS",
    help="Required SHA-256 of the file of weights.",
)
@click.option(
    "--recipe",
    "recipes",
    type=shell.PATH,
    multiple=True,
    metavar="FILE.toml",
    help="Read MODEL and options, or those of an engine, from a file; repeatable. The command "
    "line overrides it.",
)
@click.option("--variant", help="Check that the weights have this size, such as S-2.")
@click.option(
    "--precision",
    metavar="LIST",
    help=f"Of {', '.join(PRECISIONS)}, with commas.  [default: {','.join(DEFAULT_PRECISIONS)}]",
)
@click.option(
    "--io",
    metavar="LIST",
    help=f"Of {', '.join(IO_FORMS)}.  [default: {','.join(RUNTIME_FORMS)}]",
)
@click.option(
    "--literal", is_flag=True, help=f"Export the network unchanged in {FULL}, for comparison."
)
@click.option(
    "--form",
    type=click.Choice(FORM_CHOICES),
    help="Set of exact rewrites. cpu saves time on a CPU; gpu saves memory traffic in engines of "
    "one size; gpu-range takes less memory in engines for a range of sizes. auto: "
    + ", ".join(f"{row.form} for {name}" for name, row in PRECISIONS.items())
    + ".  [default: auto, or auto-range with an engine for a range of sizes]",
)
@click.option("--single-file", is_flag=True, help="Embed the weights in each graph.")
@click.option(
    "--precision-table",
    type=shell.PATH,
    metavar="FILE",
    help="Read the nodes that stay float32 from this JSON file.",
)
@click.option(
    "--license",
    "licence_file",
    type=shell.PATH,
    metavar="FILE",
    help="Licence text of your own weights, for the bundle's LICENSE. Named models have theirs.",
)
@click.option("--no-source", is_flag=True, help="Omit the literal weights from the bundle.")
@click.option("--no-verify", is_flag=True, help="Skip the comparison with PyTorch.")
@click.option("--force", is_flag=True, help="Export again and replace an existing bundle.")
@host_options
@engine_options
@click.option(
    "--inspect",
    type=shell.PATH,
    metavar="BUNDLE",
    help="Show the content of a bundle and what runs here, without writing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest instead of the path.")
@shell.common_options
def export(
    model: str | None,
    output: Path | None,
    checkpoint: Path | None,
    sha256: str | None,
    recipes: tuple[Path, ...],
    variant: str | None,
    precision: str | None,
    io: str | None,
    literal: bool,
    form: str | None,
    single_file: bool,
    precision_table: Path | None,
    licence_file: Path | None,
    no_source: bool,
    no_verify: bool,
    force: bool,
    host: str | None,
    io_type: str,
    web_runtime: Path | None,
    inspect: Path | None,
    as_json: bool,
    **engine: Any,
) -> None:
    """Export MODEL into a bundle: an ONNX graph for every size, its weights and a manifest.

    With --for, write files for another program, from MODEL or from a bundle.

    With --engine, build an engine from one of the graphs: fp16 and image, or those of --precision
    and --io. An existing bundle is not exported again, and MODEL is then optional.

    MODEL is a published name, such as deblurring-gopro (downloaded once, then cached), or
    demo-denoise, a small demo that comes with the package.

    Exit codes: 0 done, 1 something failed, 2 usage.
    """
    if inspect:
        _inspect(inspect, as_json)
        return
    if output is None:
        raise UsageError("name the directory to write with -o BUNDLE")
    precisions, forms = (text if text is None else split_list(text) for text in (precision, io))
    pinned = None if sha256 is None else read_sha256("--sha256", sha256)
    cli = ExportRecipe(model, checkpoint, variant, precisions, forms, pinned)
    asked = cli
    for recipe in reversed(recipes):  # the last one overrides those before it
        asked = asked.over(read_export_recipe(recipe))
    engine_asked = engine_settings(engine, recipes, cli.precision, cli.io)
    options = _ExportOptions(
        asked,
        literal,
        form,
        single_file,
        precision_table,
        licence_file,
        no_source,
        no_verify,
        FULL if host else io_type,
    )
    if host is not None:
        for_bundles = {"--io": io, "--engine": engine_asked, "--force": force, "--json": as_json}
        _refuse_all(for_bundles, "for a bundle; omit it with --for")
        _write_for(host_named(host), Wishes(asked.precision, io_type, web_runtime), options, output)
        shell.emit(str(output))
        return
    _refuse_all({"--web-runtime": web_runtime}, "for a host; name it with --for")
    if engine_asked and not (asked.model or asked.checkpoint or force):
        _refuse_all(options.given(), "for an export; name a MODEL or a --checkpoint")
        bundle = Bundle.open(output)
    else:
        range_form = AUTO_RANGE if _takes_range(engine_asked) else AUTO
        settings = _settings(options, default_form=range_form)
        if engine_asked:  # before a long export
            _check_engine_has_graph(engine_asked, settings)
            check_build(engine_asked, engine)
        bundle = _export(options, output, settings, force=force, for_engine=bool(engine_asked))
    if engine_asked:
        build(bundle.path, engine_asked, engine)
        bundle = Bundle.open(bundle.path)
    shell.emit(bundle.manifest.to_json().rstrip() if as_json else str(output))


@dataclass(frozen=True)
class _ExportOptions:
    """Options for an export only. `asked` is the request of recipes and command line."""

    asked: ExportRecipe
    literal: bool
    form: str | None
    single_file: bool
    precision_table: Path | None
    licence_file: Path | None
    no_source: bool
    no_verify: bool
    io_type: str

    def given(self) -> dict[str, Any]:
        """Values by name, without false ones."""
        return {
            "--variant": self.asked.variant,
            "--sha256": self.asked.sha256,
            "--literal": self.literal,
            "--form": self.form,
            "--single-file": self.single_file,
            "--precision-table": self.precision_table,
            "--license": self.licence_file,
            "--no-source": self.no_source,
            "--no-verify": self.no_verify,
            "--io-type": self.io_type != FULL,
        }


def _write_for(host: Host, wishes: Wishes, options: _ExportOptions, output: Path) -> None:
    """Write a host's files from a bundle or from a model."""
    host.check(wishes)
    check_free(output)
    asked, given = options.asked, options.given()
    if bundle := None if asked.checkpoint else folder_named(asked.model):
        _refuse_all(given, "for an export; a bundle is there")
        write_from_bundle(host, wishes, bundle, output)
        return
    for_bundles = ("--literal", "--single-file", "--no-source")
    _refuse_all({name: given[name] for name in for_bundles}, "for a bundle; omit it with --for")
    if host.io is None:
        _check_model(asked)
        licence = _read_licence(options)
        write_from_weights(host, wishes, lambda tell: _read_weights(asked, tell), licence, output)
        return
    usual = tuple(name for name in host.precisions if name in DEFAULT_PRECISIONS)
    precision = asked.precision or (usual if host.many else usual[:1])
    asked = replace(asked, precision=precision, io=(host.io,))
    options = replace(options, asked=asked, no_source=not host.needs_source)
    settings = _settings(options)
    with tempfile.TemporaryDirectory(prefix="maxim-export-") as folder:
        exported = _export(options, Path(folder, "bundle"), settings)
        write_from_bundle(host, wishes, exported.path, output)


def _inspect(folder: Path, as_json: bool) -> None:
    import json

    from maxim_deploy.engines.inspection import inspect_bundle, inspection_text

    report = inspect_bundle(folder, layers=as_json)
    shell.emit(json.dumps(report, indent=2) if as_json else inspection_text(report))
    if problem := report["exported"]["problem"]:  # other output was printed before
        raise BundleError(f"bundle {str(folder)!r}: {problem}")


def _refuse_all(options: dict[str, Any], why: str) -> None:
    """Raise an error for options without effect, with their purpose."""
    if given := [name for name, value in options.items() if value]:
        raise UsageError(f"{', '.join(given)}: {why}")


def _takes_range(engine: EngineSettings | None) -> bool:
    return engine is not None and not all(profile.fixed for profile in engine.profiles)


def _check_engine_has_graph(engine: EngineSettings, settings: BundleSettings) -> None:
    if not (engine.precision in settings.precision and engine.io in settings.io):
        raise UsageError(
            f"the engine needs the {engine.precision} {engine.io} graph, but the export makes "
            f"--precision {','.join(settings.precision)} --io {','.join(settings.io)}"
        )


def _export(
    options: _ExportOptions,
    output: Path,
    settings: BundleSettings,
    *,
    force: bool = False,
    for_engine: bool = False,
) -> Bundle:
    from maxim_deploy.export import export_bundle
    from maxim_deploy.graph.precision.lowering import read_precision_table

    path = options.precision_table
    table = read_precision_table(path) if path else None
    licence = _read_licence(options)
    with shell.report_progress() as progress:
        weights = _read_weights(options.asked, progress)
        bundle, is_new = export_bundle(
            weights,
            output,
            settings,
            table=table,
            force=force,
            allow_more=for_engine,
            licence=licence,
            command=command_without_folders(
                [str(click.get_current_context().find_root().info_name), *sys.argv[1:]]
            ),
            progress=progress,
        )
    shell.say(_summary(bundle, is_new, weights.taken))
    return bundle


def _read_licence(options: _ExportOptions) -> str | None:
    """The licence text of the user's weights, or None."""
    path, asked = options.licence_file, options.asked
    if path is None:
        return None
    if asked.checkpoint is None:
        raise UsageError(
            f"--license: {asked.model} has its own licence, {LICENCE}; omit --license, or pass "
            "--checkpoint"
        )
    try:
        text = read_bounded(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--license {str(path)!r} | cannot be read as text: {error}") from error
    if not text.strip():
        raise UsageError(f"--license {str(path)!r} | is empty | expected the text of a licence")
    return text


def _check_model(asked: ExportRecipe) -> None:
    """Check the source of the weights before slow work."""
    if asked.checkpoint is None:
        if asked.model is None:
            raise UsageError(
                f"name a model ({', '.join(MODEL_NAMES)}), or pass --checkpoint or --recipe"
            )
        check_model_name(asked.model)
    if asked.variant is not None:
        architecture_of(asked.variant)


def _settings(options: _ExportOptions, default_form: str = AUTO) -> BundleSettings:
    """Check all options before slow work."""
    asked = options.asked
    _check_model(asked)
    _read_licence(options)
    default = (FULL,) if options.literal else DEFAULT_PRECISIONS
    precision = default if asked.precision is None else asked.precision
    precision = chosen("precision", precision, PRECISIONS)
    io = chosen("I/O form", RUNTIME_FORMS if asked.io is None else asked.io, IO_FORMS)
    verify = not options.no_verify
    require_extra("export")
    if verify or precision != (FULL,):
        require("onnxruntime", "cpu")

    from maxim_deploy.export import BundleSettings

    return BundleSettings(
        precision,
        io,
        options.literal,
        options.single_file,
        not options.no_source,
        verify,
        form=options.form or default_form,
        io_type=options.io_type,
    )


def _read_weights(asked: ExportRecipe, progress: Progress) -> Checkpoint:
    from maxim_deploy.checkpoints import open_model, read_checkpoint

    if asked.model is None:
        assert asked.checkpoint is not None  # _settings has checked this
        return read_checkpoint(asked.checkpoint, variant=asked.variant, sha256=asked.sha256)

    def tell(done: int, total: int | None) -> None:
        size = f" of {total / 1e6:.1f}" if total else ""
        progress(f"downloading the checkpoint: {done / 1e6:.1f}{size} MB")

    return open_model(
        asked.model,
        file=asked.checkpoint,
        variant=asked.variant,
        progress=tell,
        sha256=asked.sha256,
    )


def _summary(bundle: Bundle, is_new: bool, taken: str) -> str:
    """A summary for the terminal: content, source and accuracy."""
    manifest = bundle.manifest
    lines = [
        f"{'exported' if is_new else 'up to date, nothing to do'}: {manifest.model.name}, "
        f"{manifest.architecture}",
        f"checkpoint SHA-256 {manifest.model.source_sha256}",
        *([f"weights in it: {taken}"] if taken else []),
    ]
    lines += [
        f"{graph.file}: opset {graph.opset}, {graph.nodes} nodes{_measured(graph)}"
        for graph in manifest.graphs
    ]
    lines += [
        f"{one.file}: {one.of} for {one.library}, {one.nodes} nodes"
        for one in manifest.tuned_graphs
    ]
    return "\n".join(lines)


def _measured(graph: GraphEntry) -> str:
    """What the export's check found, worst first."""
    parity = graph.measured.parity
    if not parity:
        return ", not checked"
    if "psnr" in parity[0]:
        psnr = parity[0]["psnr"]
        return ", equal to float32" if psnr is None else f", {psnr:.1f} dB from float32"
    if "max_levels" in parity[0]:
        worst = max(record["max_levels"] for record in parity)
        return f", within {worst} of 255 levels of the tensor form"
    what = "the tensor form" if graph.io == "planar" else "PyTorch"
    return f", within {max(record['max_error'] for record in parity):.1e} of {what}"
