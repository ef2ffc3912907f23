"""Use a PyTorch module as the body of a network, with replaced recurrent layers and output layer.

Shapes: N examples, T timesteps, H units, F features of the output layer, K modules side by side.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import DataError, FormatError, UnbraidError, UnsupportedLayer, quoted
from unbraid.networks.graph.module import KerasGraph, run_shapes
from unbraid.networks.inputs import Inputs, leaves, map_tree
from unbraid.networks.layers import Edit, Layer, decomposable_layers, pruned, slice_layer, sliced, unedited
from unbraid.networks.precision import HALF, like_weights
from unbraid.networks.pytorch.answer import Answer, changed_answer, check_answer, find_answer
from unbraid.networks.pytorch.calling import call, said
from unbraid.networks.pytorch.running import watched
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer
from unbraid.networks.removal import Removal
from unbraid.networks.spec import DenseSpec, KerasSpec, TorchSpec
from unbraid.networks.stack import RecurrentStack


class Tap(nn.Linear):
    """The output layer, which stores its last inputs and outputs."""

    def __init__(self, original: nn.Linear) -> None:
        super().__init__(1, 1, original.bias is not None, device="meta")
        self.in_features, self.out_features = original.in_features, original.out_features
        self.weight = original.weight
        self.bias = original.bias
        self.seen: Tensor | None = None
        self.gave: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        self.seen, self.gave = input, super().forward(input)
        return self.gave


class TorchBody(nn.Module):
    """Run a user's module and return the inputs of its output layer.

    Args:
        module: the user's, with RecurrentStacks and a Tap in it (see :func:`prepared`).
        spec: its description.
        copies: K modules that run in one batch; every example is repeated K times.
        whole: whether this is the whole network, so that decisions are compared with those of the user's module.
        answer: which result of the module comes from the output layer; None searches for it on the first inputs.
    """

    def __init__(
        self, module: nn.Module, spec: TorchSpec, copies: int = 1, whole: bool = True, answer: Answer | None = None
    ) -> None:
        super().__init__()
        self.module, self.spec, self.copies, self.whole = module, spec, copies, whole
        self.answer, self._sought = answer, answer is not None

    def forward(self, x: Any) -> Tensor:
        """Features (N, F) or (N, T, F); with K modules (K*N, ...), module by module.

        Raises:
            DataError: the module's forward fails on the inputs, or its result and its output layer decide
                differently.
        """
        tap = self.module.get_submodule(self.spec.head)
        assert isinstance(tap, Tap)
        x = map_tree(lambda leaf: _converted(leaf, tap.weight.dtype), x)
        if self.copies > 1:
            x = _repeated(x, self.spec, self.copies)
        compared = self.whole and not torch.compiler.is_compiling()
        if compared and not self._sought:
            self._seek(x)
        try:
            result = call(self.module, x)
        except UnbraidError:
            raise
        except Exception as error:  # whatever a user's forward raises
            raise DataError(f"the module's own forward failed on these inputs: {said(error)}") from error
        features, scores = tap.seen, tap.gave
        tap.seen = tap.gave = None
        if features is None or scores is None:
            raise DataError(f"the module's forward did not run its output layer {self.spec.head!r} on these inputs.")
        if compared and self.answer is not None:
            results = [leaf.detach() for leaf in leaves(result) if isinstance(leaf, Tensor)]
            check_answer(self.answer, scores.detach(), results, self.spec.output, self.spec.head)
        if features.dim() == (2 if self.spec.many_outputs else 1):
            features = features.unsqueeze(0)  # the module dropped the axis of a single example
        elif self.spec.time_first:
            features = features.transpose(0, 1)
        if self.copies > 1:
            features = features.unflatten(0, (-1, self.copies)).transpose(0, 1).flatten(0, 1)
        return features

    def _seek(self, x: Any) -> None:
        """Find which result of the module comes from its output layer."""
        run = watched(self.module, x, "inputs do")
        if self.spec.head in run.linears:
            scores = run.linears[self.spec.head][1]
            others = [given for _, given in run.linears.values()]
            self.answer = find_answer(scores, run.results) or changed_answer(scores, run.results, others)
        self._sought = True

    def opening(self, x: Any) -> Any:
        """Return the inputs: the steps of forward before the recurrent layers cannot run alone."""
        return x

    def opening_stages(self) -> list[nn.Module]:
        """Return no stages: the steps before the recurrent layers run with them."""
        return []

    def rest(self, x: Any) -> Tensor:
        """Run :meth:`forward`."""
        features: Tensor = self(x)
        return features

    def stacks(self) -> dict[str, RecurrentStack]:
        """Path -> recurrent stack."""
        return {name: m for name, m in self.module.named_modules() if isinstance(m, RecurrentStack)}

    def exchanged(self, stacks: Mapping[str, RecurrentStack], copies: int) -> TorchBody:
        """Copy this body with other stacks; all other layers are shared."""
        memo: dict[int, Any] = {id(p): p for p in self.module.parameters()}
        for name, stack in self.stacks().items():
            memo[id(stack)] = stacks[name]
        return TorchBody(copied(self.module, memo), self.spec, copies, whole=False)


def prepared(module: nn.Module, spec_head: str) -> nn.Module:
    """Copy a user's module and replace its recurrent layers and its output layer.

    Raises:
        UnsupportedLayer: a recurrent layer that cannot be replaced.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            memo[id(part)] = RecurrentStack(part)
    ready = copied(module, memo)
    parent, _, name = spec_head.rpartition(".")
    setattr(ready.get_submodule(parent), name, Tap(ready.get_submodule(spec_head)))  # type: ignore[arg-type]  # is Linear
    return ready.eval().requires_grad_(False)


def copied(module: nn.Module, replaced: Mapping[int, Any] | None = None) -> nn.Module:
    """Copy a user's module; tensors that forward stored in it are detached from their graph.

    Args:
        module: what to copy.
        replaced: id of a part -> its replacement.
    """
    memo: dict[int, Any] = dict(replaced or {})
    for part in module.modules():
        for leaf in leaves(dict(vars(part))):
            if isinstance(leaf, Tensor) and not leaf.is_leaf:
                memo[id(leaf)] = leaf.detach()
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # a user's module may hold any object, such as a lock
        raise UnsupportedLayer(
            f"{type(module).__name__} cannot be copied ({said(error)}): remove attributes except weights and numbers."
        ) from error


def layer_names(site: str, stack: RecurrentStack) -> list[str]:
    """List the names of the layers of a stack: ``site`` with a level (``.0``) and a direction if there are several."""
    names = []
    for place in range(len(stack.layers)):
        level, backward = divmod(place, stack.directions)
        deep = f".{level}" if stack.num_layers > 1 else ""
        names.append(site + deep + ((".backward" if backward else ".forward") if stack.bidirectional else ""))
    return names


@decomposable_layers.register
def _(body: TorchBody) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    for site, stack in body.stacks().items():
        names = layer_names(site, stack)
        for place, (name, layer) in enumerate(zip(names, stack.layers, strict=True)):
            level = place // stack.directions
            sources = names[(level - 1) * stack.directions : level * stack.directions] if level else []
            found[name] = Layer(name, layer, tuple(sources))  # type: ignore[arg-type]  # a RecurrentLayer
    return found


@pruned.register
def _(body: TorchBody, removals: Mapping[str, Removal | Tensor], modules: int) -> TorchBody:
    stacks = {}
    for site, stack in body.stacks().items():
        layers: list[nn.Module] = [
            PrunedRecurrentLayer(layer, removals[name], modules, opens=False, interleaved=True)  # type: ignore[arg-type]
            for name, layer in zip(layer_names(site, stack), stack.layers, strict=True)
        ]
        stacks[site] = stack.exchanged(layers, [None] * len(layers))
    return body.exchanged(stacks, modules)


@sliced.register
def _(body: TorchBody, kept: Mapping[str, Tensor], edit: Edit = unedited) -> tuple[TorchBody, None]:
    """Remove units within each stack. Its outputs keep their positions, because forward may read any of them."""
    stacks = {}
    for site, stack in body.stacks().items():
        names, layers = layer_names(site, stack), []
        for place, (name, layer) in enumerate(zip(names, stack.layers, strict=True)):
            assert isinstance(layer, RecurrentLayer)
            level = place // stack.directions
            below = names[(level - 1) * stack.directions : level * stack.directions] if level else []
            inputs = torch.cat([kept[n] + i * stack.hidden_size for i, n in enumerate(below)]) if below else None
            layers.append(slice_layer(edit(name, layer), kept[name], inputs))
        stacks[site] = stack.exchanged(list(layers), [kept[name] for name in names])
    return body.exchanged(stacks, 1), None


def _repeated(x: Any, spec: TorchSpec, copies: int) -> Any:
    """Repeat every example K times in a row, so that batches sorted by length stay sorted."""
    tensors: list[Tensor] = []
    map_tree(lambda leaf: tensors.append(leaf) if isinstance(leaf, Tensor) and leaf.dim() else None, x)
    axis = spec.batch_axis if tensors[0].dim() > spec.batch_axis else 0
    inputs = Inputs(x, tensors[0].shape[axis], spec.batch_axis)

    def repeat(leaf: Any) -> Any:
        where = inputs.axis_of(leaf)
        return leaf if where is None else leaf.repeat_interleave(copies, dim=where)

    return map_tree(repeat, x)


def _converted(leaf: Any, dtype: torch.dtype) -> Any:
    """Convert a tensor to the type of weights that were converted by half(), bfloat16() or double()."""
    if not isinstance(leaf, Tensor) or not (dtype in HALF or (dtype, leaf.dtype) == (torch.float64, torch.float32)):
        return leaf
    return like_weights(leaf, dtype)


def own_module(spec: TorchSpec, module: nn.Module | None) -> nn.Module:
    """Copy and prepare the user's module; raises FormatError if it is None or has other layers.

    A Keras graph is built from its description instead.
    """
    if isinstance(spec, KerasSpec):
        return _built_graph(spec)
    if module is None:
        raise FormatError(
            f"the parent network is a PyTorch module ({spec.module}), whose code is not stored: pass a new instance, "
            f"module={spec.module}(...), or run its exported ONNX file."
        )
    given = f"module={type(module).__name__}(...)"
    try:
        ready = prepared(module, spec.head)
    except AttributeError:
        raise FormatError(
            f"{given} has no layer {spec.head!r}: make it with the arguments of the saved module."
        ) from None
    found: dict[str, tuple[int, int]] = {}
    for site, stack in TorchBody(ready, spec).stacks().items():
        for name, layer in zip(layer_names(site, stack), stack.layers, strict=True):
            found[name] = (layer.inputs, layer.units)  # type: ignore[assignment]  # a RecurrentLayer
    expected = {layer.name: (layer.inputs, layer.units) for layer in spec.layers}
    if found != expected:
        raise FormatError(
            f"{given} has recurrent layers {found}, expected {expected}: make it with the arguments "
            "of the saved module."
        )
    return ready


def _built_graph(spec: KerasSpec) -> nn.Module:
    """Build a Keras graph without memory, and check that its layers fit together; raises FormatError."""
    with torch.device("meta"):
        graph = KerasGraph(spec.graph)
        try:
            run_shapes(graph)
        except DataError as error:
            raise FormatError(str(error)) from None
        head = graph.by_name.get(spec.head)
        if not isinstance(head, DenseSpec) or (head.inputs, head.units) != (spec.features, spec.classes):
            raise FormatError(
                f"the output layer {quoted(spec.head)!r} of the graph is no dense layer of {spec.features} inputs and "
                f"{spec.classes} units."
            )
        return prepared(graph, spec.head)


def copied_linear(layer: nn.Module) -> nn.Linear:
    """Make an nn.Linear that shares the weights, with a bias of zeros if there is none."""
    assert isinstance(layer, nn.Linear)
    copied = nn.Linear(1, 1, device="meta")
    copied.in_features, copied.out_features = layer.in_features, layer.out_features
    copied.weight = layer.weight
    own: nn.Parameter | None = layer.bias  # None with bias=False, although the stubs of torch exclude it
    copied.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features)) if own is None else own
    return copied
