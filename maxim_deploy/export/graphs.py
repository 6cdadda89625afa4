"""Write the graphs of a bundle: trace once, cast, wrap, and check each on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from maxim_deploy._progress import Progress
from maxim_deploy.checkpoints import Checkpoint
from maxim_deploy.export.deployment import FORMS, DeploymentMaxim
from maxim_deploy.export.settings import BundleSettings
from maxim_deploy.export.tracing import EXAMPLE_SHAPE, onnx_from_module
from maxim_deploy.export.verify import (
    known_result,
    verify_image_form,
    verify_planar_form,
    verify_tensor_form,
)
from maxim_deploy.graph.checks import check_graph, check_no_example_sizes, operator_counts
from maxim_deploy.graph.files import save_graph
from maxim_deploy.graph.image_form import image_form
from maxim_deploy.graph.operators import check_operators
from maxim_deploy.graph.planar_form import planar_form
from maxim_deploy.graph.precision.lowering import Lowered, Lowering
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.graph.tensorrt_parse import parse_with_tensorrt_rtx
from maxim_deploy.machine.run_memory import measured_run_memory
from maxim_deploy.model import Maxim, module_from_checkpoint
from maxim_deploy.spec.export_record import GraphRecord
from maxim_deploy.spec.manifest import GraphEntry
from maxim_deploy.spec.precision import CPU_PRECISIONS, FULL, PRECISIONS


@dataclass(frozen=True)
class GraphWriter:
    """Writes the graphs of a bundle into a folder."""

    folder: Path
    checkpoint: Checkpoint
    settings: BundleSettings
    table: PrecisionTable | None
    progress: Progress

    def write(self) -> list[GraphEntry]:
        """Trace the network, and write and check every graph that the settings name.

        Raises:
            ExportError: a graph is not valid, not accepted by TensorRT, or not exact enough.
        """
        network = module_from_checkpoint(self.checkpoint)
        entries: dict[str, list[GraphEntry]] = {}
        for form in dict.fromkeys(map(self.settings.form_of, self.settings.precision)):
            precisions = [x for x in self.settings.precision if self.settings.form_of(x) == form]
            entries |= self._write_deployment_form(network, form, precisions)
        return [entry for name in self.settings.precision for entry in entries[name]]

    def _write_deployment_form(
        self, network: Maxim, form: str, precisions: list[str]
    ) -> dict[str, list[GraphEntry]]:
        """Trace one form, and write its precisions' graphs."""
        self.progress(f"tracing the network, {form} form (half a minute per stage)")
        module = network if form == "literal" else DeploymentMaxim(network, FORMS[form])
        core = onnx_from_module(module)
        check_no_example_sizes(core, EXAMPLE_SHAPE)
        entries: dict[str, list[GraphEntry]] = {}
        if FULL in precisions:
            entries[FULL] = [*self._write_forms(core, FULL, network)]
        elif self.settings.verify:
            self._check_core(core, network)
        low = [name for name in precisions if name != FULL]
        if low:
            self.progress("measuring magnitudes on pictures")
            lowering = Lowering(core, self.folder, self.table, verify=self.settings.verify)
        for name in low:
            self.progress(f"casting to {name} and comparing with float32")
            lowered = lowering.lower(name)
            entries[name] = [*self._write_forms(lowered.model, name, lowered)]
        return entries

    def _check_core(self, core: ir.Model, network: Maxim) -> None:
        """Compare a temporary float32 graph with PyTorch. Other graphs are measured against it."""
        self.progress("comparing ONNX Runtime with PyTorch")
        # Inside the unfinished bundle: if this process is killed, both are removed together.
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder, "core.onnx")
            save_graph(core, path, "core.weights", {})
            verify_tensor_form(network, path)

    def _write_forms(
        self, model: ir.Model, precision: str, against: Maxim | Lowered
    ) -> Iterator[GraphEntry]:
        """Write the I/O forms of a precision, which share a file of weights.

        `against` is the network to compare the tensor form with, or an earlier measurement.
        """
        # Written even if not requested, because the checks compare this form on disk.
        tensor = self._write_form(model, precision, "tensor")
        measured = GraphRecord()
        if not isinstance(against, Maxim):
            measured = GraphRecord(against.parity, magnitudes=against.magnitudes)
        elif self.settings.verify:
            self.progress("comparing ONNX Runtime with PyTorch")
            measured = GraphRecord(verify_tensor_form(against, tensor))
            measured = measured.with_result(known_result(tensor))
        if self.settings.verify and precision in CPU_PRECISIONS:
            self.progress(f"measuring the memory of {precision}")
            measured = measured.with_run_memory(measured_run_memory(tensor))
        if "image" in self.settings.io:
            image = self._write_form(image_form(model), precision, "image")
            agreement = []
            if self.settings.verify and precision in CPU_PRECISIONS:
                self.progress(f"comparing the {precision} image form with the tensor form")
                agreement = verify_image_form(tensor, image)
            yield self._entry(image, precision, "image", replace(measured, parity=agreement))
        if "planar" in self.settings.io:
            yield self._planar(model, tensor, measured)
        if "tensor" in self.settings.io:
            yield self._entry(tensor, precision, "tensor", measured)
        else:
            tensor.unlink()

    def _planar(self, model: ir.Model, tensor: Path, measured: GraphRecord) -> GraphEntry:
        """Write and check the planar form of a graph with the tensor form `tensor`."""
        precision = tensor.name.split(".")[0]
        io_type = self.settings.io_type
        planar = self._write_form(planar_form(model, io_type), precision, "planar")
        agreement = []
        if self.settings.verify and precision in CPU_PRECISIONS:
            self.progress(f"comparing the {precision} planar form with the tensor form")
            agreement = verify_planar_form(tensor, planar, io_type)
        return self._entry(planar, precision, "planar", replace(measured, parity=agreement))

    def _write_form(self, model: ir.Model, precision: str, io: str) -> Path:
        path = self.folder / f"{precision}.{io}.onnx"
        sizes = self.checkpoint.architecture.to_json()
        metadata = {
            **{f"model.{key}": fact for key, fact in self.checkpoint.descriptor.to_json().items()},
            "architecture": str(self.checkpoint.architecture),
            **{f"architecture.{name}": str(size) for name, size in sizes.items()},
            "form": "literal" if self.settings.literal else "deployment",
            "deployment_form": self.settings.form_of(precision),
            "precision": precision,
            "io": io,
            **({"io_type": self.settings.io_type} if io == "planar" else {}),
        }
        save_graph(model, path, self._weights(precision), metadata)
        check_graph(path, io, self.settings.io_type)
        # The literal form uses antialias, which TensorRT lacks.
        if not self.settings.literal:
            check_operators(model)
            self.progress("parsing with TensorRT for RTX, if it is installed")
            parse_with_tensorrt_rtx(path)
        return path

    def _weights(self, precision: str) -> str | None:
        return None if self.settings.single_file else f"{precision}.weights"

    def _entry(self, path: Path, precision: str, io: str, measured: GraphRecord) -> GraphEntry:
        return GraphEntry(
            path.name,
            precision,
            io,
            self._weights(precision),
            PRECISIONS[precision].opset,
            operator_counts(path).total(),
            self.settings.form_of(precision),
            measured,
        )
