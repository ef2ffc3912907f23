"""A user's own module as an ONNX graph: ``torch.onnx.export`` of its forward, but for its recurrent layers.

While torch traces, a placeholder stands for every recurrent layer and a mask for every packed sequence; afterwards each
placeholder's node is exchanged for the nodes of :func:`unbraid.networks.onnx_recurrent.recurrent`.
Shapes: N examples, T timesteps, D inputs, H units.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from unbraid.errors import DataError, UnbraidError
from unbraid.networks import stack
from unbraid.networks.cells import State
from unbraid.networks.inputs import Inputs, leaves, map_tree
from unbraid.networks.onnx_graph import IR_VERSION, OPSET, Graph
from unbraid.networks.onnx_recurrent import recurrent
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer

_DOMAIN = "unbraid"
_LOGGERS = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")


def traced(module: nn.Module, inputs: Inputs, names: list[str], outputs: list[str]) -> Any:
    """The ONNX model of a module that runs a user's own.

    Args:
        module: in eval mode; copied.
        inputs: an example, tensors as leaves.
        names: of its tensors.
        outputs: names of the results.

    Raises:
        UnbraidError: the forward does something that cannot be written as a graph.
    """
    if not hasattr(torch.onnx, "ops"):
        raise UnbraidError(f"torch {torch.__version__} cannot export a user's own module; torch 2.8 and newer can.")
    layers: list[nn.Module] = []
    flat = _Flat(_with_placeholders(module, layers).cpu(), inputs.tree)
    shapes = {"tensors": tuple({i: torch.export.Dim.AUTO for i in range(t.dim())} for t in flat.given)}
    try:
        with _quiet(), _packed_as_masks(), torch.no_grad():
            program = torch.export.export(flat, flat.given, dynamic_shapes=shapes, strict=False)
            exported = torch.onnx.export(
                program, input_names=names, output_names=outputs, opset_version=OPSET, dynamo=True, verbose=False
            )
    except Exception as error:  # whatever torch's exporter raises for whatever a user's forward does
        raise UnbraidError(_advice(error)) from error
    assert exported is not None
    proto = exported.model_proto
    _strip(proto)
    _splice(proto, layers)
    _name_sizes(proto, [inputs.axis_of(t) for t in flat.given])
    proto.ir_version = IR_VERSION
    return proto


def input_names(module: nn.Module, tree: Any) -> list[str]:
    """One name per tensor: the forward's arguments, or a dict's keys; nested ones joined by a dot."""
    named = tree
    if not isinstance(tree, dict):
        arguments = [p for p in inspect.signature(module.forward).parameters]
        several = isinstance(tree, tuple | list) and len(tree) <= len(arguments)
        named = dict(zip(arguments, tree, strict=False)) if several else {arguments[0]: tree}
    found: list[str] = []

    def walk(part: Any, path: str) -> None:
        if isinstance(part, Tensor):
            found.append(path)
        elif isinstance(part, dict | tuple | list):
            pairs = part.items() if isinstance(part, dict) else enumerate(part)
            for key, value in pairs:
                walk(value, f"{path}.{key}" if path else str(key))

    walk(named, "")
    return found


class _Placeholder(nn.Module):
    """Says what a recurrent layer gives, and leaves a node with its number."""

    def __init__(self, layer: nn.Module, number: int) -> None:
        super().__init__()
        own = layer.layer if isinstance(layer, PrunedRecurrentLayer) else layer
        assert isinstance(own, RecurrentLayer)
        self.inputs, self.units, self.number = own.inputs, own.units, number
        self.states = 2 if own.cell.kind == "lstm" else 1

    def forward(self, x: Tensor, valid: Tensor | None = None, initial: State | None = None) -> tuple[Tensor, State]:
        if x.shape[-1] != self.inputs:  # never: but it tells torch that this size does not change
            raise ValueError(f"{x.shape[-1]} inputs, expected {self.inputs}")
        rows, steps = x.shape[:2]
        values, *states = torch.onnx.ops.symbolic_multi_out(
            f"{_DOMAIN}::Recurrent",
            [x, valid, *(initial or ())],
            {"number": self.number},
            dtypes=[x.dtype] * (1 + self.states),
            shapes=[(rows, steps, self.units)] + [(rows, self.units)] * self.states,
            version=1,
        )
        return values, tuple(states)


class _Flat(nn.Module):
    """Calls a module with a tree made anew from its tensors."""

    def __init__(self, module: nn.Module, tree: Any) -> None:
        super().__init__()
        self.module, self.tree = module, map_tree(lambda leaf: _HERE if isinstance(leaf, Tensor) else leaf, tree)
        self.given = tuple(leaf for leaf in leaves(tree) if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        result: tuple[Tensor, ...] = self.module(map_tree(lambda v: next(rest) if v is _HERE else v, self.tree))
        return result


_HERE = object()


def _with_placeholders(module: nn.Module, layers: list[nn.Module]) -> nn.Module:
    """A copy of a module; the layers that placeholders stand for are added to ``layers``."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        if isinstance(part, stack.RecurrentStack):
            for layer in part.layers:
                memo[id(layer)] = _Placeholder(layer, len(layers))
                layers.append(layer)
    return copy.deepcopy(module, memo).eval()


class _Masks:
    """torch's own functions under pack_padded_sequence and pad_packed_sequence, for sequences that stay padded.

    A packed sequence's data are (N, T, ...), its batch_sizes a mask (1, N, T).
    """

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def _pack_padded_sequence(self, x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        x = x if batch_first else x.transpose(0, 1)
        return x, (torch.arange(x.shape[1]) < lengths.unsqueeze(1)).unsqueeze(0)

    def _pad_packed_sequence(
        self, data: Tensor, mask: Tensor, batch_first: bool, padding_value: float, steps: int
    ) -> tuple[Tensor, Tensor]:
        lengths = mask[0].sum(dim=1)
        here = mask[0].reshape(*mask.shape[1:], *[1] * (data.dim() - 2))
        padded = torch.where(here, data, padding_value)
        if isinstance(steps, int) and steps == 1:  # total_length was not given: up to the longest of the batch
            padded = _cut(padded, lengths)
        return (padded if batch_first else padded.transpose(0, 1)), lengths


def _cut(padded: Tensor, lengths: Tensor) -> Tensor:
    longest = lengths.max().item()
    torch._check(longest >= 1)
    torch._check(longest <= padded.shape[1])
    return padded[:, :longest]


@contextmanager
def _packed_as_masks() -> Iterator[None]:
    original = stack.pad_packed_sequence

    def whole(sequence: rnn.PackedSequence, batch_first: bool) -> tuple[Tensor, Tensor]:
        return original(sequence, batch_first, total_length=sequence.batch_sizes.shape[2])

    with patch.object(rnn, "_VF", _Masks(rnn._VF)), patch.object(stack, "pad_packed_sequence", whole):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on itself."""
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


def _advice(error: Exception) -> str:
    while isinstance(error.__cause__, Exception) and isinstance(error, DataError):
        error = error.__cause__
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"the module's forward cannot be exported to ONNX: {first} -- only tensor operations can be: no decision on "
        "their values, no .item(), .tolist() or .numpy(); lengths must be a tensor among the inputs."
    )


def _strip(proto: Any) -> None:
    """Without notes on the code that it was traced from, which name files of this machine."""
    parts = [proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]
    for part in parts:
        for name in ("metadata_props", "doc_string"):
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)
    proto.graph.ClearField("value_info")


def _splice(proto: Any, layers: list[nn.Module]) -> None:
    """Nodes of recurrent layers in the places of their placeholders."""
    from onnx import helper

    graph, nodes = Graph(prefix="unbraid_"), []
    for node in proto.graph.node:
        if node.domain != _DOMAIN:
            nodes.append(node)
            continue
        number = next(a.i for a in node.attribute if a.name == "number")
        x, valid, *initial = [*node.input, ""][: max(2, len(node.input))]
        graph.nodes = []
        values, states = recurrent(layers[number], graph, x, valid or None, initial)
        nodes += graph.nodes
        nodes += [
            helper.make_node("Identity", [value], [name])
            for value, name in zip([values, *states], node.output, strict=True)
            if name
        ]
    nodes = [copy.deepcopy(node) for node in nodes]
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(graph.tensors())
    kept = [o for o in proto.opset_import if o.domain != _DOMAIN]
    proto.ClearField("opset_import")
    proto.opset_import.extend([helper.make_opsetid(o.domain, o.version) for o in kept])


def _name_sizes(proto: Any, axes: list[int | None]) -> None:
    """Sizes that may change are called batch, time, time_2, ..."""
    names: dict[str, str] = {}
    for value, axis in zip(proto.graph.input, axes, strict=True):
        if axis is not None:
            names.setdefault(value.type.tensor_type.shape.dim[axis].dim_param, "batch")
    for value in [*proto.graph.input, *proto.graph.output]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param.isdigit():  # torch found out that it cannot change
                size.dim_value = int(size.dim_param)
            elif size.dim_param:
                times = len(set(names.values()) - {"batch"})
                size.dim_param = names.setdefault(size.dim_param, f"time_{times + 1}" if times else "time")
