"""Trace one timestep of a user's own recurrent cell, for the body of a loop.

Shapes: N examples, D inputs, H hidden units.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import UnbraidError
from unbraid.export.graph import OPSET, Graph
from unbraid.export.programs import advice, converted, quiet, strip
from unbraid.networks.copying import deep_copy
from unbraid.networks.own_layer import OwnLayer

ROWS = 3  # examples of the trace; their number stays open


class _OneStep(nn.Module):
    """Compute the next states (N, H) of a cell from its inputs (N, D) and states (N, H)."""

    def __init__(self, layer: OwnLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        x, *states = tensors
        return tuple(self.layer.step(x, tuple(states)))


def own_step(graph: Graph, layer: OwnLayer) -> Any:
    """Return the ONNX model of one timestep: inputs x and the states, outputs the next states.

    Args:
        graph: the graph of the whole model; a layer is traced once for it.
        layer: the layer with the cell.

    Raises:
        UnbraidError: code of the cell that cannot be converted to a graph.
    """
    if id(layer) not in graph.steps:
        graph.steps[id(layer)] = _traced(layer)
    return copy.deepcopy(graph.steps[id(layer)])


def _traced(layer: OwnLayer) -> Any:
    step = deep_copy(_OneStep(layer)).cpu().eval()  # the layer stays on its device
    dtype = next(step.parameters()).dtype
    sizes = [layer.inputs, *[layer.units] * layer.cell.states]
    given = tuple(torch.full((ROWS, size), 0.5, dtype=dtype) for size in sizes)
    names = ["x", *(f"state{place}" for place in range(layer.cell.states))]
    results = [f"next_{name}" for name in names[1:]]
    with quiet(), torch.no_grad():
        try:
            proto = _scripted(step, given, names, results)
        except Exception:  # an operator that this exporter lacks, or a version of torch without it
            proto = None
        try:
            proto = _programmed(step, given, names, results) if proto is None else proto
        except Exception as error:  # the exporter may raise any error for the forward of a user
            raise UnbraidError(f"{layer.cell.name}: {advice(error)}") from error
    if any(not value.type.tensor_type.shape.dim[0].dim_param for value in proto.graph.input):
        raise UnbraidError(
            f"one step of {layer.cell.name} makes the number of examples a constant, for example by int(x.shape[0]): "
            "use x.shape[0] itself, and operations on whole tensors."
        )
    strip(proto)
    return proto


def _scripted(step: nn.Module, given: tuple[Tensor, ...], names: list[str], results: list[str]) -> Any:
    """Convert by the older exporter, which takes a hundredth of the time."""
    import onnx

    file = io.BytesIO()
    target: Any = file  # its stubs have only paths
    with _without_graphs():
        torch.onnx.export(
            step, given, target, dynamo=False, opset_version=OPSET, input_names=names, output_names=results,
            dynamic_axes={name: {0: "batch"} for name in names},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


@contextmanager
def _without_graphs() -> Iterator[None]:
    """Keep the older exporter from printing the graph where it fails; its own switch for this has no effect."""
    space: Any = torch._C
    printed = space._jit_onnx_log
    space._jit_onnx_log = lambda *parts: None
    try:
        yield
    finally:
        space._jit_onnx_log = printed


def _programmed(step: nn.Module, given: tuple[Tensor, ...], names: list[str], results: list[str]) -> Any:
    shape = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.STATIC}
    program = torch.export.export(step, given, dynamic_shapes={"tensors": (shape,) * len(given)}, strict=False)
    return converted(program, names, results).model_proto
