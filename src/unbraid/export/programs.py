"""Convert a program of ``torch.export`` to ONNX, without messages, and explain what cannot be converted."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from unbraid.errors import DataError, quoted
from unbraid.export.graph import OPSET

_LOGGERS = ("torch.onnx", "torch.export", "torch._export", "torch.fx", "onnxscript", "onnx_ir")


def converted(program: torch.export.ExportedProgram, names: list[str], outputs: list[str]) -> Any:
    """Convert a traced module, without the optimizer of the exporter where that fails (splits of a dynamic axis)."""
    convert = partial(
        torch.onnx.export, program, input_names=names, output_names=outputs, opset_version=OPSET, dynamo=True,
        verbose=False, custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
    )  # fmt: skip
    try:
        return convert()
    except RuntimeError as error:
        if type(error).__name__ != "PassError":
            raise
        return convert(optimize=False)


def _stable_sort(x: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> Any:
    """Write aten.sort.stable in ONNX, where TopK keeps equal values in their order."""
    import onnxscript

    op: Any = onnxscript.opset18  # its stubs are narrower than its operators
    size = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    return op.TopK(x, size, axis=dim, largest=int(descending), sorted=1)


def strip(proto: Any) -> None:
    """Remove metadata about the traced code, because it contains file paths of this machine."""
    parts = [proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]
    for part in parts:
        for name in ("metadata_props", "doc_string"):
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)
    proto.graph.ClearField("value_info")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the messages and warnings of the exporter."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def advice(error: Exception) -> str:
    """Name what to change in a forward that cannot be exported, with the first error of the exporter."""
    if isinstance(error, DataError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    while isinstance(error.__cause__, Exception):
        error = error.__cause__  # the first error of the exporter names the operation
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        "the module's forward cannot be exported to ONNX: replace branches on values, .item(), .tolist(), max() and "
        "loops over examples by tensor operations, and "
        f"pass lengths as a tensor. Message of torch: {quoted(first, 100)}"
    )
