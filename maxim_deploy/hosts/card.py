"""Facts about a model for a README: origin, measurements, licence."""

from __future__ import annotations

from pathlib import Path

from maxim_deploy._files import write_text
from maxim_deploy._version import __version__
from maxim_deploy.hosts.order import Order
from maxim_deploy.spec.manifest import LICENCE_FILE, GraphEntry
from maxim_deploy.spec.models import PUBLISHED

UNKNOWN = "not known"
PAPER = "https://arxiv.org/abs/2201.02973"


def write_readme(order: Order, folder: Path, about: str, use: str) -> None:
    """Write `README.md`, and the licence if there is one.

    Args:
        order: order of the model.
        folder: folder of the host.
        about: a sentence about the folder.
        use: instructions in Markdown.
    """
    text = f"# {order.model.name}\n\n{about}\n\n{use.strip()}\n\n{facts(order)}"
    write_text(folder / "README.md", text)
    write_licence(order, folder)


def write_licence(order: Order, folder: Path) -> None:
    """Write the licence text if there is one."""
    if order.licence is not None:
        write_text(folder / LICENCE_FILE, order.licence)


def facts(order: Order) -> str:
    """Facts about a model as a Markdown table that ends in a line break."""
    model = order.model
    rows = {
        "Network": f"MAXIM {order.architecture}, [paper]({PAPER})",
        "Task": model.task,
        "Trained on": model.dataset,
        "Licence of the weights": model.licence or ("see LICENSE" if order.licence else None),
        "Weights from": model.source,
        "SHA-256 of that file": model.source_sha256 and f"`{model.source_sha256}`",
        "Published result": _published(model.name),
        **{f"`{entry.file}`": line for entry in _measured(order) if (line := agreement(entry))},
        "Written by": f"maxim-deploy {__version__}",
    }
    lines = [f"| {name} | {fact or UNKNOWN} |" for name, fact in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def agreement(entry: GraphEntry) -> str:
    """The accuracy of a graph at export, in words; empty if not measured."""
    records = entry.measured.parity
    if not records:
        return ""
    if "psnr" in records[0]:
        psnr = records[0]["psnr"]
        return (
            "equal to float32" if psnr is None else f"{psnr:.1f} dB from float32, on a photograph"
        )
    if "max_error" in records[0]:
        worst = max(record["max_error"] for record in records)
        return f"at most {worst:.1e} from PyTorch, on values in [0, 1]"
    return ""


def _measured(order: Order) -> list[GraphEntry]:
    """The graphs whose accuracy applies to the written files."""
    if order.given_bundle is None:
        return []
    graphs = order.given_bundle.manifest.graphs
    return [one for one in graphs if one.io == "tensor" and one.precision in order.precisions]


def _published(name: str) -> str | None:
    model = PUBLISHED.get(name)
    return f"PSNR {model.psnr} dB, SSIM {model.ssim} on {model.dataset}" if model else None
