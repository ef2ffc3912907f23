"""Convert a PyTorch module to an ONNX graph: ``torch.onnx.export`` of its forward, without its recurrent layers.

During the trace, each recurrent layer is a placeholder and each packed sequence is a mask. Afterwards the node of each
placeholder is replaced by the nodes of its layer. Shapes: N examples, T timesteps, D inputs, H hidden units.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import UnbraidError
from unbraid.export.graph import IR_VERSION
from unbraid.export.packing import packed_as_masks
from unbraid.export.programs import advice, converted, quiet, strip
from unbraid.export.splice import DOMAIN, name_sizes, splice
from unbraid.networks import stack
from unbraid.networks.cells import State
from unbraid.networks.inputs import Inputs, leaves, map_tree, parts_of
from unbraid.networks.own_stack import OwnStack
from unbraid.networks.passes import current
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.step_layer import StepLayer


def traced(module: nn.Module, inputs: Inputs, names: list[str], outputs: list[str], fixed: bool = False) -> Any:
    """Trace a module and make its ONNX model.

    Args:
        module: a module in eval mode; it is copied.
        inputs: an example with tensors as leaves.
        names: names of these tensors.
        outputs: names of the results.
        fixed: whether the number of examples is that of the example.

    Raises:
        UnbraidError: the forward cannot be converted to a graph.
    """
    if not hasattr(torch.onnx, "ops"):
        raise UnbraidError(
            f"torch {torch.__version__} cannot export a PyTorch module of your own, expected torch 2.8 or newer: "
            "upgrade torch."
        )
    if any(isinstance(part, OwnStack) for part in module.modules()):
        with torch.no_grad():
            module(inputs.tree)  # finds the form of the results of own cells, which a graph does not compute
    layers: list[nn.Module] = []
    flat = _Flat(_with_placeholders(module, layers).cpu(), inputs.tree)
    axes = [inputs.axis_of(t) for t in flat.given]
    constant = [axis if fixed else None for axis in axes]
    shapes = {
        "tensors": tuple(
            {i: torch.export.Dim.STATIC if i == own else torch.export.Dim.AUTO for i in range(t.dim())}
            for t, own in zip(flat.given, constant, strict=True)
        )
    }
    try:
        with quiet(), packed_as_masks(), _lengths_may_change(flat), torch.no_grad():
            program = torch.export.export(flat, flat.given, dynamic_shapes=shapes, strict=False)
            exported = converted(program, names, outputs)
    except Exception as error:  # the exporter may raise any error for the forward of a user
        raise UnbraidError(advice(error)) from error
    proto = exported.model_proto
    strip(proto)
    splice(proto, layers)
    name_sizes(proto, [None] * len(axes) if fixed else axes)
    for value, axis in zip(proto.graph.input, axes, strict=True):
        if not fixed and axis is not None and not value.type.tensor_type.shape.dim[axis].dim_param:
            raise UnbraidError(
                f"the module's forward makes the number of examples in {value.name!r} a constant, for example by "
                "int(x.shape[0]), range(len(x)) or .tolist(): use x.shape[0] itself, operations on whole tensors, "
                "and return scores instead of lists."
            )
    proto.ir_version = IR_VERSION
    return proto


def find_orders(module: nn.Module, inputs: Inputs) -> None:
    """Run bodies that sort examples by length, because the rule of their order is found in a run without a graph.

    Args:
        module: holds the bodies.
        inputs: an example as they read it.
    """
    for part in list(module.modules()):
        if isinstance(part, TorchBody) and part.spec.run.sorts:
            for rows in (torch.arange(len(inputs)).flip(0), torch.arange(len(inputs))):
                with torch.no_grad():
                    part(inputs.take(rows).tree)


def input_names(module: nn.Module, tree: Any) -> list[str]:
    """Name each tensor of an example: arguments of the forward, or keys of a dict; nested names are joined by a dot."""
    if isinstance(tree, Mapping):
        return _paths(tree)
    arguments = list(inspect.signature(module.forward).parameters)
    several = isinstance(tree, tuple | list) and len(tree) <= len(arguments)
    return _paths(dict(zip(arguments, tree, strict=False)) if several else {arguments[0]: tree})


def _paths(tree: Any, path: str = "") -> list[str]:
    if isinstance(tree, Tensor):
        return [path]
    parts = parts_of(tree)
    if parts is None:
        return []
    keys = range(len(parts)) if isinstance(tree, tuple | list) else tree if isinstance(tree, Mapping) else vars(tree)
    pairs = zip(keys, parts, strict=True)
    return [name for key, part in pairs for name in _paths(part, f"{path}.{key}" if path else str(key))]


class _Placeholder(nn.Module):
    """A placeholder with the output shapes of a recurrent layer; it adds one node with the number of the layer."""

    def __init__(self, layer: nn.Module, number: int) -> None:
        super().__init__()
        own = layer.layer if isinstance(layer, PrunedRecurrentLayer) else layer
        assert isinstance(own, StepLayer)
        self.inputs, self.units, self.number, self.states = own.inputs, own.units, number, own.cell.states
        self.pruned = isinstance(layer, PrunedRecurrentLayer)
        self.masks = layer.removal.kept.shape[1] if isinstance(layer, PrunedRecurrentLayer) else 1

    def forward(self, x: Tensor, valid: Tensor | None = None, initial: State | None = None) -> tuple[Tensor, State]:
        if x.shape[-1] != self.inputs:  # never true, but it makes this size a constant for torch
            raise ValueError(f"{x.shape[-1]} inputs, expected {self.inputs}")
        rows, steps = x.shape[:2]
        values, *states = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::Recurrent",
            [x, valid, *(initial or ())],
            {"number": self.number, **self._call(steps)},
            dtypes=[x.dtype] * (1 + self.states),
            shapes=[(rows, steps, self.units)] + [(rows, self.units)] * self.states,
            version=1,
        )
        return values, tuple(states)

    def _call(self, steps: int | torch.SymInt) -> dict[str, int]:
        """Return which module runs alone, and which timesteps this call reads, for masks that depend on the timestep.

        A call that reads all timesteps leaves their number open.
        """
        here, found = current(), dict[str, int]()
        if here is None or not self.pruned:
            return found
        if here.turn is not None:
            found["turn"] = here.turn
        if self.masks > 1:
            offset: int | torch.SymInt = here.advance(self, steps)  # type: ignore[arg-type]  # an open size
            if isinstance(steps, int) or not isinstance(offset, int) or offset:
                found |= {"offset": int(offset), "steps": int(steps)}
        return found


class _Flat(nn.Module):
    """Call a module with a tree of inputs that is rebuilt from a flat list of tensors."""

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
    """Copy a module with placeholders for its recurrent layers; the replaced layers are appended to ``layers``."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        if isinstance(part, stack.RecurrentStack):
            for layer in part.layers:
                if not isinstance(layer, StepLayer | PrunedRecurrentLayer):
                    continue  # a joined layer for small batches, which a graph does not run
                memo[id(layer)] = _Placeholder(layer, len(layers))
                layers.append(layer)
    copied = copy.deepcopy(module, memo).eval()
    for part in copied.modules():
        if isinstance(part, stack.RecurrentStack) and part.proj_size:  # a graph has no operation for them
            part.inverses = partial(list, part.inverses())  # type: ignore[method-assign]
    return copied


@contextmanager
def _lengths_may_change(module: nn.Module) -> Iterator[None]:
    """Let len(tensor) in the user's code return the symbolic size; the len() of Python would make it a constant."""
    places = [getattr(type(part).forward, "__globals__", {}) for part in module.modules()]
    others = [g for g in places if str(g.get("__name__", "torch")).partition(".")[0] not in ("torch", "unbraid")]
    changed = list({id(names): names for names in others if "len" not in names}.values())
    for names in changed:
        names["len"] = lambda x: x.shape[0] if isinstance(x, Tensor) else len(x)
    try:
        yield
    finally:
        for names in changed:
            del names["len"]
