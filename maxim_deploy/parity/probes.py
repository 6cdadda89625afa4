"""Intermediate tensors of a running network, by name. Needs torch or onnx, whichever it probes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maxim_deploy.parity.points import RESTORED, Point

Array = NDArray[Any]

AT_ONCE = 256
"""Tensors of a graph that are held at a time: S-2 at 64x64 has 3,400, of up to a megabyte."""


class Probe(Protocol):
    """A network whose tensors can be looked at.

    Attributes:
        names: of all tensors, in the order in which they are computed.
        by_point: of the points that it has, the tensor of each; see `points`.
    """

    names: list[str]
    by_point: dict[str, str]

    def values(self, names: Sequence[str], image: Array) -> Iterator[tuple[str, Array]]:
        """The tensors of the given names for a batch `[N, 3, H, W]`, channels last: `[..., C]`."""


class ModuleProbe:
    """A PyTorch module in literal or deployment form.

    Args:
        module: is not modified but for hooks while it runs.
        points: of its architecture.
        literal: whether it is in the literal form, with maps `[N, H, W, C]`; else its maps are
            `[N, C, H, W]` and all else are tokens `[pixels, C]`.
    """

    def __init__(self, module: Any, points: Iterable[Point], *, literal: bool) -> None:
        self.module, self._literal = module, literal
        paths = [path.replace(".", "/") for path, _ in module.named_modules() if path]
        self._modules = dict(zip(paths, [m for p, m in module.named_modules() if p], strict=True))
        self.names = [*paths, RESTORED]  # put into order by the first run
        self.by_point = {
            point.name: point.name if literal else _own_name(point) for point in points
        }

    def exact(self) -> ModuleProbe:
        """The same network in float64."""
        # A copy of the module: its weights in float32 stay as they are for the other probe.
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module).double()
        other._modules = {
            path.replace(".", "/"): m for path, m in other.module.named_modules() if path
        }
        return other

    def values(self, names: Sequence[str], image: Array) -> Iterator[tuple[str, Array]]:
        """As `Probe.values`; everything is held at once."""
        seen = self.run(image)
        yield from ((name, seen[name]) for name in names if name in seen)

    def run(self, image: Array) -> dict[str, Array]:
        """Every module's results by name, in the order in which they are computed."""
        import torch

        seen: dict[str, Array] = {}

        def keep(name: str, result: Any) -> None:
            if isinstance(result, torch.Tensor):
                seen[name] = self._channels_last(result.numpy())
            elif isinstance(result, tuple):
                for k, one in enumerate(result):
                    keep(f"{name}.{k}", one)

        hooks = [
            module.register_forward_hook(lambda _, __, result, name=path: keep(name, result))
            for path, module in self._modules.items()
        ]
        dtype = next(self.module.parameters()).dtype
        try:
            with torch.inference_mode():
                restored = self.module(torch.from_numpy(image).to(dtype)).numpy()
        # The module is the caller's: a hook that stayed would hold every later result.
        finally:
            for hook in hooks:
                hook.remove()
        seen[RESTORED] = restored.transpose(0, 2, 3, 1)
        self.names = [*seen]
        return seen

    def _channels_last(self, value: Array) -> Array:
        return value if self._literal or value.ndim != 4 else value.transpose(0, 2, 3, 1)


class GraphProbe:
    """An ONNX graph of the tensor form, in literal or deployment form, of any precision.

    Tensors are named after the nodes that compute them.

    Args:
        model: an `onnx_ir.Model`; it is not modified.
        points: of its architecture.
        literal: whether it was traced from the literal form.
        simulated: simulate its precision in float32, and look at the rounded values.
    """

    def __init__(
        self, model: Any, points: Iterable[Point], *, literal: bool, simulated: bool = False
    ) -> None:
        from maxim_deploy.graph.precision.simulated import simulated_in_float32
        from maxim_deploy.graph.precision.type_constraints import is_border, is_float

        self._literal = literal
        nodes = [node for node in model.graph if is_float(node) and not is_border(node)]
        every = {
            _output_name(node, k): v.name for node in nodes for k, v in enumerate(node.outputs)
        }
        self.names = [*every]
        self.by_point = dict(_points_in(nodes, points, literal))
        probed = simulated_in_float32(model) if simulated else model.clone()
        known = {value.name for node in probed.graph for value in node.outputs}
        # The rounded value is what the next node reads; the one before it exists in the simulation.
        self._tensors = {
            name: f"{value}/round_back" if f"{value}/round_back" in known else value
            for name, value in every.items()
        }
        self._session = _session_on(probed, set(self._tensors.values()))

    def values(self, names: Sequence[str], image: Array) -> Iterator[tuple[str, Array]]:
        """As `Probe.values`; the graph runs once for every `AT_ONCE` of them."""
        # An output lives until its run ends: memory holds one part, for one more run of each.
        for start in range(0, len(names), AT_ONCE):
            part = names[start : start + AT_ONCE]
            found = self._session.run([self._tensors[name] for name in part], {"image": image})
            for name, value in zip(part, found, strict=True):
                as_map = value.ndim == 4 and (not self._literal or name == self.by_point[RESTORED])
                yield name, value.transpose(0, 2, 3, 1) if as_map else value


def _own_name(point: Point) -> str:
    if point.name == RESTORED:
        return RESTORED
    several = point.deployment.rpartition("/")[0].endswith("/skip") or "/enlarge_" in (
        point.deployment
    )
    return f"{point.deployment}.{point.result}" if several else point.deployment


def _points_in(
    nodes: list[Any], points: Iterable[Point], literal: bool
) -> Iterator[tuple[str, str]]:
    """Each point with the node that computes it: the last one of its module."""
    for point in points:
        if point.name == RESTORED:
            yield RESTORED, _output_name(nodes[-1], 0)
            continue
        name, _, index = point.name.partition(".")
        scope = f"{name if literal else point.deployment}/"
        inside = [node for node in nodes if node.name.startswith(scope)]
        # A traced split stands behind its module, and of two results the last one is the first.
        split = not literal and point.deployment.endswith("enlarge_deepest")
        if inside and not split and index in ("", "0", "1"):
            yield point.name, _output_name(inside[-1], point.result)


def _output_name(node: Any, index: int) -> str:
    return f"{node.name}.{index}" if len(node.outputs) > 1 else str(node.name)


def _session_on(model: Any, tensors: set[str]) -> Any:
    """A session on a graph that returns the given tensors as well."""
    from maxim_deploy.graph.precision.session import open_session

    outputs = {value.name for value in model.graph.outputs}
    for node in model.graph:
        model.graph.outputs.extend(
            value for value in node.outputs if value.name in tensors - outputs
        )
    return open_session(model)


def as_rows(value: Array) -> NDArray[np.float64]:
    """`[..., C]` of any layout as float64 `[pixels, C]`."""
    # Differences of float32 values are exact in float64, and so are sums over few million rows.
    return value.reshape(-1, value.shape[-1]).astype(np.float64)
