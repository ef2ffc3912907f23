"""Use a PyTorch module as the body of a network, with replaced recurrent layers and output layer.

Shapes: N examples, T timesteps, H units, F features of the output layer, K modules in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_packed_sequence

from unbraid.errors import DataError, FormatError, UnbraidError, quoted
from unbraid.networks.cells import OwnCell
from unbraid.networks.graph.module import KerasGraph, run_shapes
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.inputs import Inputs, map_tree
from unbraid.networks.passes import Pass, one_pass
from unbraid.networks.precision import HALF, like_weights
from unbraid.networks.pytorch.answer import Answer, changed_answer, check_answer, find_answer
from unbraid.networks.pytorch.arranging import Arrangement, compared, returned
from unbraid.networks.pytorch.calling import Caller, said
from unbraid.networks.pytorch.linear_site import LinearSite, PrunedLinear
from unbraid.networks.pytorch.merging import full_precision, plain
from unbraid.networks.pytorch.replacing import copied, prepared, stacks_of
from unbraid.networks.pytorch.running import recorded
from unbraid.networks.pytorch.sorting import StableSorts
from unbraid.networks.pytorch.transitions import without_paths
from unbraid.networks.reading import torch_inputs
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.stage_spec import DenseSpec
from unbraid.networks.torch_spec import TorchSpec


class TorchBody(nn.Module):
    """Run a user's module and return the inputs of its output layer.

    Args:
        module: the user's module, prepared with RecurrentStacks and a Tap (see :func:`prepared`).
        spec: description of the module.
        copies: number of modules K that run in one batch. Every example is repeated K times.
        whole: whether this is the parent network, so that its decisions are compared with those of the user's module.
        answer: the result of the module that depends on the output layer. None searches for it on the first inputs.
    """

    def __init__(
        self, module: nn.Module, spec: TorchSpec, copies: int = 1, whole: bool = True, answer: Answer | None = None
    ) -> None:
        super().__init__()
        self.module, self.spec, self.copies, self.whole = module, spec, copies, whole
        self.answer, self._sought = answer, answer is not None
        self._arrangement = Arrangement(spec.run.layout, spec.run.pick, spec.time_first, spec.many_outputs)
        self._caller = Caller(module, spec.run)

    def train(self, mode: bool = True) -> TorchBody:
        """Set the mode of the recurrent layers. Other parts stay in evaluation mode: dropout would change decisions."""
        super().train(mode)
        recurrent = {id(one) for p in self.module.modules() if isinstance(p, RecurrentStack) for one in p.modules()}
        for part in self.module.modules():
            part.training = mode and id(part) in recurrent
        return self

    def forward(self, x: Any) -> Tensor:
        """Compute the features (N, F) or (N, T, F); with K modules (K*N, ...), ordered by module.

        Raises:
            DataError: the forward method of the module fails on the inputs, or its result and its output layer decide
                differently.
        """
        weight = self.module.get_submodule(self.spec.head).weight
        assert isinstance(weight, Tensor)
        dtype = weight.dtype
        inputs = torch_inputs(self.spec, map_tree(lambda leaf: _converted(leaf, dtype), x))
        with one_pass() as here:
            if self.copies > 1 and self.spec.run.batch is not None:
                return torch.cat([self._features(here, inputs, turn) for turn in range(self.copies)])
            if self.copies == 1:
                return self._features(here, inputs)
            with StableSorts():
                features = self._features(here, _repeated(inputs, self.copies))
            return features.unflatten(0, (-1, self.copies)).transpose(0, 1).flatten(0, 1)

    def _features(self, here: Pass, inputs: Inputs, turn: int | None = None) -> Tensor:
        """Compute the features of all parts of a batch."""
        found = []
        for part, count in self._caller.parts(inputs):
            here.begin(part.examples, turn)
            features, order = self._called(here, part)
            picked = None if order is None else order.argsort()
            if count != part.examples:
                picked = torch.arange(part.examples)[:count] if picked is None else picked[:count]
            here.pick(picked)
            found.append(features if picked is None else features[picked])
        return found[0] if len(found) == 1 else torch.cat(found)

    def packed_lengths(self, x: Any) -> Tensor | None:
        """Run the module; return the lengths of the sequences that it packs, (N,), or None if it packs none.

        They are in the order of the inputs, except where the module itself sorts them.
        """
        dtype = self.module.get_submodule(self.spec.head).weight.dtype
        assert isinstance(dtype, torch.dtype)
        inputs = torch_inputs(self.spec, map_tree(lambda leaf: _converted(leaf, dtype), x))
        found = []
        with torch.no_grad(), one_pass() as here:
            for part, count in self._caller.parts(inputs):
                here.begin(part.examples)
                _, order = self._caller.call(part)
                if here.packed is None or int(here.packed.batch_sizes[0]) != part.examples:
                    return None
                lengths = pad_packed_sequence(here.packed, batch_first=True)[1]
                found.append((lengths if order is None else lengths[order.argsort()])[:count])
        return torch.cat(found)

    def _called(self, here: Pass, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """Call the module once; return the features, and the order of the examples in them."""
        try:
            result, order = self._caller.call(inputs)
        except UnbraidError:
            raise
        except Exception as error:  # a user's forward may raise any error
            raise DataError(f"the module's own forward failed on these inputs: {said(error)}") from error
        if not here.head:
            raise DataError(f"the module's forward did not run its output layer {self.spec.head!r} on these inputs.")
        features = self._arranged(here, inputs)
        if self.whole and not torch.compiler.is_compiling():
            self._compare(here, inputs, returned(result))
        return features, order

    def _arranged(self, here: Pass, inputs: Inputs) -> Tensor:
        """Return the features of the calls of the output layer, (N, F) or (N, T, F)."""
        calls = [x for x, _ in here.head]
        failed: Exception | None = None
        try:
            features = self._arrangement.apply(calls, inputs.examples, here.packed)
            if features.shape[0] == inputs.examples and features.shape[-1] == calls[0].shape[-1]:
                return features
        except (RuntimeError, TypeError, AssertionError) as error:
            failed = error
        shapes = [tuple(x.shape) for x in calls[:3]]
        raise DataError(
            f"output layer {self.spec.head!r} reads {shapes} for {inputs.examples} examples, an arrangement that "
            "differs from that of the example of the network."
        ) from failed

    def _compare(self, here: Pass, inputs: Inputs, results: list[Tensor]) -> None:
        """Compare the decisions of the module with those of its output layer; raise DataError if they differ."""
        if self._sought and self.answer is None:
            return
        given = [scores.detach() for _, scores in here.head]
        scores, results = compared(self._arrangement, given, results, inputs.examples, here.packed)
        if not self._sought:
            self.answer = without_paths(find_answer(scores, results), self.module, self.spec.classes)
            if self.answer is None and results:
                self.answer = changed_answer(scores, results, self._others(inputs))
            self._sought = True
        if self.answer is not None:
            check_answer(self.answer, scores, results, self.spec.output, self.spec.head)

    def _others(self, inputs: Inputs) -> list[Tensor]:
        """Compute the scores of all layers that could be output layers."""
        with one_pass() as here:
            here.begin(inputs.examples)
            runs = recorded(self._caller, inputs, "inputs do")
        return [calls[-1][1] for run in runs for calls in run.heads.values()]

    def opening(self, x: Any) -> Any:
        """Return the inputs: the steps of forward before the recurrent layers cannot run alone."""
        return x

    def count(self, x: Any) -> int:
        """Return the number of examples N of the inputs."""
        return torch_inputs(self.spec, x).examples

    def opening_stages(self) -> list[nn.Module]:
        """Return no stages: the steps before the recurrent layers run with them."""
        return []

    def rest(self, x: Any) -> Tensor:
        """Run :meth:`forward`."""
        features: Tensor = self(x)
        return features

    def stacks(self) -> dict[str, RecurrentStack]:
        """Return the recurrent stacks by path."""
        return stacks_of(self.module)

    def sites(self) -> dict[str, LinearSite]:
        """Return the hidden linear layers whose units can be removed, by path."""
        found = {dense.name: self.module.get_submodule(dense.name) for dense in self.spec.dense}
        sites = {name: part.site if isinstance(part, PrunedLinear) else part for name, part in found.items()}
        return sites  # type: ignore[return-value]  # see with_sites

    def exchanged(self, parts: Mapping[str, nn.Module], copies: int) -> TorchBody:
        """Copy this body with other stacks and linear layers, by path; all other layers are shared."""
        memo: dict[int, Any] = {id(p): p for p in self.module.parameters()}
        stacks = self.stacks()
        for name, part in parts.items():
            memo[id(stacks[name] if name in stacks else self.module.get_submodule(name))] = part
        return TorchBody(copied(self.module, memo), self.spec, copies, whole=False)


def layer_names(site: str, stack: RecurrentStack) -> list[str]:
    """List the names of the layers of a stack: ``site`` with a level (``.0``) and a direction if there are several."""
    names = []
    for place in range(len(stack.layers)):
        level, backward = divmod(place, stack.directions)
        deep = f".{level}" if stack.num_layers > 1 else ""
        names.append(site + deep + ((".backward" if backward else ".forward") if stack.bidirectional else ""))
    return names


def _repeated(inputs: Inputs, copies: int) -> Inputs:
    """Repeat every example K times in a row, so that batches sorted by length stay sorted."""

    def repeat(leaf: Any) -> Any:
        where = inputs.axis_of(leaf)
        return leaf if where is None else leaf.repeat_interleave(copies, dim=where)

    return Inputs(map_tree(repeat, inputs.tree), inputs.examples * copies, inputs.axis, axes=inputs.axes)


def _converted(leaf: Any, dtype: torch.dtype) -> Any:
    """Convert a tensor of half precision, or to weights that were converted by half(), bfloat16() or double()."""
    if not isinstance(leaf, Tensor):
        return leaf
    if not (dtype in HALF or leaf.dtype in HALF or (dtype, leaf.dtype) == (torch.float64, torch.float32)):
        return leaf
    return like_weights(leaf, dtype)


def own_module(spec: TorchSpec, module: nn.Module | None, plain_copy: bool = False) -> nn.Module:
    """Copy and prepare the user's module; raise FormatError if it is None or has other layers.

    A Keras graph is built from its description instead.

    Args:
        spec: description of the module.
        module: the module.
        plain_copy: whether ``module`` is a copy in eval mode, with plain weights, that nothing else uses.
    """
    if isinstance(spec, KerasSpec):
        return _built_graph(spec)
    if module is None:
        raise FormatError(
            f"the parent network is a PyTorch module ({quoted(spec.module)}), whose code is not stored: pass a new "
            f"instance, module={quoted(spec.module)}(...), or run its exported ONNX file."
        )
    given = f"module={type(module).__name__}(...)"
    try:
        own = module if plain_copy else copied(module).eval()
        if not plain_copy:
            plain(own)
            full_precision(own)
        if not isinstance(own.get_submodule(spec.head), nn.Linear | nn.Conv1d):
            raise AttributeError
        ready = with_sites(prepared(own, spec.head, spec.run.folds), spec)
    except AttributeError:
        raise FormatError(
            f"{given} has no output layer {quoted(spec.head)!r}: make it with the arguments of the saved module."
        ) from None
    found: dict[str, tuple[int, int]] = {}
    for site, stack in TorchBody(ready, spec).stacks().items():
        for name, layer in zip(layer_names(site, stack), stack.layers, strict=True):
            found[name] = (layer.inputs, layer.units)  # type: ignore[assignment]  # a RecurrentLayer
    expected = {layer.name: (layer.inputs, layer.units) for layer in spec.layers}
    missing = (
        {layer.cell.name for layer in spec.layers if isinstance(layer.cell, OwnCell)} if found != expected else set()
    )
    if missing and len(found) < len(expected):
        raise FormatError(
            f"{given} has cells of classes that are not registered: call unbraid.register_cell for "
            f"{quoted(', '.join(sorted(missing)), 200)} first, as before the module was saved."
        )
    if found != expected:
        raise FormatError(
            f"{given} has recurrent layers {quoted(found, 200)}, expected {quoted(expected, 200)}: make it with the "
            "arguments of the saved module."
        )
    return ready


def _built_graph(spec: KerasSpec) -> nn.Module:
    """Build a Keras graph without memory, and check that its layers fit together; raise FormatError."""
    with torch.device("meta"):
        graph = KerasGraph(spec.graph)
        try:
            run_shapes(graph)
        except DataError as error:
            raise FormatError(str(error)) from None
        head = graph.by_name.get(spec.head)
        if not isinstance(head, DenseSpec) or (head.inputs, head.units) != (spec.features, spec.classes):
            raise FormatError(
                f"the output layer {quoted(spec.head)!r} of the graph is not a dense layer of {spec.features} inputs "
                f"and {spec.classes} units."
            )
        return with_sites(prepared(graph, spec.head, {}), spec)


def with_sites(module: nn.Module, spec: TorchSpec) -> nn.Module:
    """Replace the hidden linear layers of a prepared module in place; raise FormatError for other layers."""
    _check_chains(spec)
    for dense in spec.dense:
        try:
            layer = module.get_submodule(dense.name)
        except AttributeError:
            raise FormatError(f"layer {quoted(dense.name)!r} is missing, expected an nn.Linear.") from None
        size: tuple[int, int] | None = None
        if isinstance(layer, nn.Linear | LinearSite):  # a prepared module has sites already
            size = (layer.weight.shape[1], layer.weight.shape[0])
        if size != (dense.inputs, dense.units):
            raise FormatError(
                f"layer {quoted(dense.name)!r} is {type(layer).__name__} of {size} inputs and units, expected an "
                f"nn.Linear of {(dense.inputs, dense.units)}."
            )
        assert isinstance(layer, nn.Linear | LinearSite)
        owner, _, name = dense.name.rpartition(".")
        site = LinearSite(layer.weight, layer.bias, dense.rows, dense.rectified)
        setattr(module.get_submodule(owner), name, site.eval().requires_grad_(False))
    return module


def _check_chains(spec: TorchSpec) -> None:
    """Raise FormatError unless each chained layer is read by one other layer of its size."""
    sizes = {dense.name: dense.inputs for dense in spec.dense} | {spec.head: spec.features}
    readers = [dense.chained for dense in spec.dense if dense.chained is not None]
    for dense in spec.dense:
        if dense.chained is not None and (
            sizes.get(dense.chained) != dense.units or dense.chained == dense.name or readers.count(dense.chained) > 1
        ):
            raise FormatError(
                f"layer {quoted(dense.name)!r}: field chained: found {quoted(dense.chained)!r}, expected another layer "
                f"of {dense.units} inputs that no other layer is chained to."
            )
