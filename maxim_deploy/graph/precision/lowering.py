"""Make low-precision graphs: decided by a table, measured on pictures, and checked by a gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from maxim_deploy._files import write_text
from maxim_deploy._reading import read_bounded
from maxim_deploy.checkpoints import demo_weights
from maxim_deploy.errors import ExportError, UsageError
from maxim_deploy.graph.precision.compare import compare_graphs
from maxim_deploy.graph.precision.convert import low_precision
from maxim_deploy.graph.precision.defaults import default_table
from maxim_deploy.graph.precision.magnitudes import magnitudes, with_safe_range
from maxim_deploy.graph.precision.pictures import probe_pictures
from maxim_deploy.graph.precision.report import decided_nodes, table_text
from maxim_deploy.graph.precision.simulated import simulated_in_float32
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.graph.precision.verify import verify_types
from maxim_deploy.imaging.files import read_image
from maxim_deploy.spec.precision import LOW

SMALL, LARGE = (256, 256), (1024, 1024)
"""Sizes for measuring magnitudes: all pictures at the small one, only the photograph at a
megapixel. Its largest values were at most 5 % above those of the small size."""


@dataclass(frozen=True)
class Lowered:
    """A low-precision graph with measurements on pictures.

    Attributes:
        model: the graph.
        parity: difference from float32 on each picture.
        magnitudes: largest magnitude that each node of the table reads or writes in float32.
    """

    model: ir.Model
    parity: list[dict[str, Any]]
    magnitudes: dict[str, float | None]


class Lowering:
    """Makes the low-precision forms of a float32 graph. Magnitudes are measured once.

    Args:
        core: the float32 graph of the tensor form.
        folder: folder for `<precision>.table.txt` and `<precision>.table.json`.
        table: replaces the default table of its precision.
        verify: whether to check the results against `Precision.gate`.
    """

    def __init__(
        self, core: ir.Model, folder: Path, table: PrecisionTable | None, *, verify: bool
    ) -> None:
        self.core, self.folder, self.table, self.verify = core, folder, table, verify
        photo = read_image(demo_weights().with_name("chelsea.png")).rgb
        self.photos = {"chelsea": photo}
        self.seen = magnitudes(core, self._pictures())

    def lower(self, precision: str) -> Lowered:
        """The graph in a precision of `LOW`.

        Raises:
            ExportError: a result is not finite, or differs from float32 by more than its gate
                allows.
        """
        table = self.table if self.table is not None else default_table(precision, self.core.graph)
        # Also for a user's table: without these islands a value may become infinite.
        table = with_safe_range(table, self.core, self.seen)
        model = low_precision(self.core, table)
        # Runtimes accept a graph with a missing island. Only its pictures are worse.
        verify_types(model, table)
        # The last digits of magnitudes differ between machines. With them, bundles would not be
        # equal.
        decided = decided_nodes(table, self.core, {})
        write_text(self.folder / f"{precision}.table.txt", table_text(table, decided))
        write_text(self.folder / f"{precision}.table.json", table.to_json(decided))
        seen = decided_nodes(table, self.core, self.seen).values()
        magnitudes = {name: largest for nodes in seen for name, largest in nodes.items()}
        parity = self._parity(model, precision) if self.verify else []
        return Lowered(model, parity, magnitudes)

    def _pictures(self) -> Iterator[NDArray[np.float32]]:
        yield from probe_pictures(self.photos, *SMALL).values()
        yield probe_pictures(self.photos, *LARGE)["chelsea"]

    def _parity(self, model: ir.Model, precision: str) -> list[dict[str, Any]]:
        # ONNX Runtime's CPU provider runs hardly any bfloat16 operator, and leaves float16 values
        # unrounded between its float32 kernels. Simulated precision rounds every stored value.
        pictures = probe_pictures(self.photos, *SMALL)
        found = compare_graphs(simulated_in_float32(model), self.core, pictures)
        gate = LOW[precision].gate
        for name in self.photos:
            if found[name].psnr < gate:
                raise ExportError(
                    f"{precision} is {found[name].psnr:.1f} dB from float32 on the picture "
                    f"{name!r}, its gate is {gate:.0f} dB{_advice(precision)}"
                )
        return [
            {"picture": name, "size": list(SMALL), **difference.to_json()}
            for name, difference in found.items()
        ]


def _advice(precision: str) -> str:
    """Advice to take a precision of a wider range, if there is one."""
    wider = (name for name, row in LOW.items() if row.exponent > LOW[precision].exponent)
    return "".join(f"; try --precision {name}, which has the range of float32" for name in wider)


def read_precision_table(path: Path) -> PrecisionTable:
    """A table from a JSON file.

    Raises:
        UsageError: the file cannot be read or is not a table.
    """
    try:
        return PrecisionTable.from_json(read_bounded(path).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, ExportError) as error:
        raise UsageError(f"precision table {str(path)!r}: {error}") from error
