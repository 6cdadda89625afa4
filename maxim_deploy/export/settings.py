"""The settings of an export."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from maxim_deploy.errors import UsageError, check_known
from maxim_deploy.graph.precision.table import PrecisionTable
from maxim_deploy.spec.precision import (
    AUTO,
    AUTO_RANGE,
    DEFAULT_PRECISIONS,
    FORM_CHOICES,
    FULL,
    PRECISIONS,
    TRACED_OPSET,
)
from maxim_deploy.spec.recipes import IO_FORMS, IO_TYPES, RUNTIME_FORMS, chosen


@dataclass(frozen=True)
class BundleSettings:
    """Settings of an export. Equal settings and weights give equal bundles.

    Attributes:
        precision: names of precisions.
        io: names of I/O forms.
        literal: export the literal network, for comparison; float32 only.
        single_file: embed the weights in each graph rather than share one file per precision.
        source: keep the literal weights in the bundle.
        verify: compare each graph with its reference before it is kept.
        table: SHA-256 of the precision table that replaces the default one, or None.
        form: one of `FORM_CHOICES`. A name in `DEPLOYMENT_FORMS` applies to every precision.
        licence: SHA-256 of the user's licence text for the weights, or None.
        io_type: type of the planar form's input and output, of `IO_TYPES`.

    Raises:
        UsageError: a name is unknown, `literal` is combined with a low precision, or `io_type` is
            given without the planar form.
    """

    precision: tuple[str, ...] = DEFAULT_PRECISIONS
    io: tuple[str, ...] = RUNTIME_FORMS
    literal: bool = False
    single_file: bool = False
    source: bool = True
    verify: bool = True
    table: str | None = None
    form: str = AUTO
    licence: str | None = None
    io_type: str = FULL

    def __post_init__(self) -> None:
        chosen("precision", self.precision, PRECISIONS)
        chosen("I/O form", self.io, IO_FORMS)
        check_known("deployment form", self.form, FORM_CHOICES)
        check_known("I/O type", self.io_type, IO_TYPES)
        if self.io_type != FULL and "planar" not in self.io:
            raise UsageError(
                f"--io-type {self.io_type} is for the planar form, but --io is "
                f"{','.join(self.io)}; add planar, or omit --io-type"
            )
        if self.literal and self.form not in (AUTO, AUTO_RANGE):
            raise UsageError(f"the literal form has no deployment form {self.form}; omit --form")
        if self.literal and self.precision != (FULL,):
            raise UsageError(
                f"the literal form is exported in {FULL} only, for comparison; "
                f"pass --precision {FULL}, not {','.join(self.precision)}"
            )

    def with_table(self, table: PrecisionTable) -> BundleSettings:
        """These settings with a precision table.

        Raises:
            UsageError: the table's precision is not among those requested.
        """
        wanted = table.precision.name
        if set(self.precision) - {FULL} != {wanted}:
            raise UsageError(
                f"the precision table is for {wanted}; pass --precision {FULL},{wanted}, not "
                f"{','.join(self.precision)}"
            )
        return replace(self, table=hashlib.sha256(table.to_json().encode()).hexdigest())

    def with_licence(self, text: str) -> BundleSettings:
        """These settings with the text of a licence."""
        return replace(self, licence=hashlib.sha256(text.encode()).hexdigest())

    def form_of(self, precision: str) -> str:
        """The form of a precision's graphs: one of `DEPLOYMENT_FORMS`, or "literal"."""
        if self.literal:
            return "literal"
        return PRECISIONS[precision].form_for(self.form)

    def to_json(self) -> dict[str, Any]:
        """As recorded in the manifest."""
        lists = {"precision": list(self.precision), "io": list(self.io)}
        return {**asdict(self), **lists, "opset": TRACED_OPSET}
