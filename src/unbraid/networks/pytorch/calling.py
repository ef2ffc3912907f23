"""Call a user's nn.Module with inputs of any structure, by the convention of its spec, and quote its errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unbraid.errors import quoted
from unbraid.networks.inputs import Inputs, arrays_of, map_tree, packed
from unbraid.networks.passes import current
from unbraid.networks.pytorch.lengths import PackedLengths, Rule, UnsortedError, rule_for
from unbraid.networks.pytorch.memory import Memory
from unbraid.networks.torch_spec import TorchRun


class Caller:
    """Calls a module for one batch of any size.

    Args:
        module: the module, in eval mode. Tensors that it keeps between calls are reset after each call.
        run: calling convention of the module.
    """

    def __init__(self, module: nn.Module, run: TorchRun) -> None:
        self.module, self.run = module, run
        self._memory = Memory(module) if run.keeps else None
        self._rule: Rule | None = None
        self._unsorted = False  # whether unsorted lengths reached a packing call

    def parts(self, inputs: Inputs) -> Iterator[tuple[Inputs, int]]:
        """Split a batch into parts of the size that the module needs.

        Yields:
            inputs of one call, and the number of its examples without repeated ones.
        """
        if self.run.batch is None:
            yield inputs, inputs.examples
            return
        for start in range(0, inputs.examples, self.run.batch):
            rows = torch.arange(start, start + self.run.batch).clamp(max=inputs.examples - 1)
            yield inputs.take(rows), min(self.run.batch, inputs.examples - start)

    def call(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        """Call the module once.

        Returns:
            the result, and the order of its examples, (N,); None for the order of the inputs.

        Raises:
            UnsortedError: the module packs unsorted sequences whose number is not that of the examples.
        """
        if not self.run.sorts:
            return self._once(inputs), None
        if torch.compiler.is_compiling() and (self._rule is None or self._unsorted):
            return self._once(inputs), None  # packed sequences are masks in a graph, in any order
        if self._rule is None:
            result, key = self._observed(inputs)
            if key is None:
                return result, None
            self._rule, order = rule_for(key, inputs), key.argsort(descending=True, stable=True)
        else:
            order = self._rule(inputs).argsort(descending=True, stable=True)
        return self._once(inputs.take(order)), order

    def trees(self, inputs: Inputs) -> Iterator[Any]:
        """Return the inputs of each call that a batch needs, as the module itself reads them; see :func:`call`."""
        for part, _ in self.parts(inputs):
            order = self.call(part)[1] if self.run.sorts else None
            tree = self._tree(part if order is None else part.take(order))
            yield (tree,) if self.run.whole else tree  # as the arguments of :func:`call`

    def _observed(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        """Call the module and record packed lengths; return the result, and the lengths if they are not sorted."""
        lengths = PackedLengths()
        try:
            with lengths:
                result = self._once(inputs)
        except UnsortedError as error:
            if len(error.lengths) != inputs.examples:
                raise
            self._unsorted = True
            return None, error.lengths
        return result, lengths.key(inputs.examples)

    def _tree(self, inputs: Inputs) -> Any:
        tree = inputs.tree
        if self.run.unbatched:
            tree = map_tree(lambda leaf: _first(leaf, inputs.axis_of(leaf)), tree)
        if self.run.lists and not torch.compiler.is_compiling():  # a graph has tensors only
            listed = {id(leaf) for place, leaf in enumerate(arrays_of(inputs.tree)) if place in self.run.lists}
            tree = map_tree(lambda leaf: leaf.tolist() if id(leaf) in listed else leaf, tree)
        return tree

    def _once(self, inputs: Inputs) -> Any:
        tree = self._tree(inputs)
        if (here := current()) is not None:
            here.start_call()
        try:
            return call(self.module, tree, self.run.whole)
        except IndexError as error:
            raise (_explained(self.module, lambda: call(self.module, tree, self.run.whole)) or error) from None
        finally:
            if self._memory is not None:
                self._memory.restore()


def _explained(module: nn.Module, again: Callable[[], Any]) -> IndexError | None:
    """Call a module again to find an index that an embedding does not have; return an error that names it."""
    found: list[str] = []

    def check(name: str, part: nn.Embedding, x: Tensor) -> None:
        wrong = x[(x < 0) | (x >= part.num_embeddings)]
        if len(wrong):
            found.append(
                f"word index {int(wrong[0])}, and the embedding {name!r} has 0 to {part.num_embeddings - 1}: encode "
                "the inputs with the vocabulary of the training"
            )

    hooks = [
        part.register_forward_pre_hook(lambda own, args, name=name: check(name, own, args[0]) if args else None)
        for name, part in module.named_modules()
        if isinstance(part, nn.Embedding)
    ]
    try:
        again()
    except Exception as error:
        return IndexError(found[0]) if found else error if isinstance(error, IndexError) else None
    finally:
        for hook in hooks:
            hook.remove()
    return None


def _first(leaf: Any, axis: int | None) -> Any:
    return leaf if axis is None else leaf.select(axis, 0)


def call(module: nn.Module, x: Any, whole: bool = False) -> Any:
    """Call a module.

    Args:
        module: the module.
        x: its arguments. A tuple or list holds them in order; a mapping holds them by name if the names fit.
        whole: whether a tuple or list is one argument.
    """
    x = packed(x)
    if isinstance(x, Mapping):
        return module(**x) if _binds(module, kwargs=x) else module(x)
    if isinstance(x, tuple | list) and not isinstance(x, PackedSequence) and not whole:
        return module(*x) if _binds(module, args=x) else module(x)
    return module(x)


def said(error: Exception) -> str:
    """Return the first line of an error, shortened for a message."""
    return quoted((str(error).strip() or type(error).__name__).splitlines()[0])


def _binds(module: nn.Module, args: Any = (), kwargs: Any = None) -> bool:
    try:
        inspect.signature(module.forward).bind(*args, **(kwargs or {}))
    except TypeError:
        return False
    return True
