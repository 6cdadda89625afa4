"""Load weights from a bundle into an engine that was built without them.

A refit needs a deserialized engine, so it needs a GPU. See "What ran where" in README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maxim_deploy.errors import EngineError


def refit_from_graph(trt: Any, engine: Any, graph: Path, logger: Any) -> None:
    """Refit a stripped engine with its weights.

    Args:
        trt: the library's module.
        engine: a deserialized `trt.ICudaEngine`, built with `strip_weights`.
        graph: the ONNX file that it was built from, with the weights beside it. The caller has
            checked both hashes, because the engine may be refitted with these weights only.
        logger: a `trt.ILogger`.

    Raises:
        EngineError: a weight is missing or does not fit.
    """
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    if not parser.refit_from_file(str(graph)):
        errors = "; ".join(parser.get_error(k).desc() for k in range(parser.num_errors))
        raise EngineError(f"cannot read the weights of {graph.name} for a refit: {errors}")
    # It returns False without an exception. The engine would then run with missing weights.
    if not refitter.refit_cuda_engine():
        missing = ", ".join(refitter.get_missing_weights()) or "none are missing"
        raise EngineError(f"refitting from {graph.name} failed; missing weights: {missing}")
