"""Run a user's nn.Module on its example batch, also in another order, to find the arrangement of examples.

Shapes: N examples, T timesteps, F features of the output layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from unbraid.errors import DataError, UnbraidError, UnsupportedLayer
from unbraid.networks.inputs import Inputs, arrays_of
from unbraid.networks.own_cells import form_of
from unbraid.networks.pytorch.arranging import Arrangement, returned
from unbraid.networks.pytorch.calling import Caller, said
from unbraid.networks.pytorch.checking import is_layer
from unbraid.networks.pytorch.heads import HEADS, channels_last
from unbraid.networks.pytorch.lengths import UnsortedError
from unbraid.networks.torch_spec import TorchRun

Fold = Literal["outer", "inner"]


@dataclass
class Run:
    """Recorded values of one call of a module.

    Attributes:
        examples: number of examples N.
        results: the tensors that the module returned.
        heads: path of every layer that could be an output layer -> inputs and outputs of its calls.
        layers: path of a recurrent layer or cell -> inputs of its calls, (rows, T, D).
        packed: the last packed sequence that a recurrent layer returned.
        convolutions: paths of the layers that are convolutions.
        sorts: whether a packed sequence was made with ``enforce_sorted=True``.
        order: order of the examples in these values; None for the order of the inputs.
    """

    examples: int
    results: list[Tensor] = field(default_factory=list)
    heads: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    layers: dict[str, list[Tensor]] = field(default_factory=dict)
    packed: PackedSequence | None = None
    convolutions: set[str] = field(default_factory=set)
    sorts: bool = False
    order: Tensor | None = None

    @property
    def linears(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return inputs and outputs of the last call of every nn.Linear that ran, by path."""
        return {name: calls[-1] for name, calls in self.heads.items() if name not in self.convolutions}

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of calls of each layer, by path."""
        return {name: len(calls) for name, calls in self.heads.items()} | {
            n: len(calls) for n, calls in self.layers.items()
        }

    @property
    def rows(self) -> dict[str, set[int]]:
        """Return the numbers of sequences that each recurrent layer read, by path."""
        return {name: {len(x) for x in calls} for name, calls in self.layers.items()}

    def features(self, head: str, arrangement: Arrangement) -> Tensor:
        """Return the inputs of the output layer, (N, F) or (N, T, F), in the order of the inputs."""
        found = arrangement.apply([x for x, _ in self.heads[head]], self.examples, self.packed)
        return found if self.order is None else found[self.order.argsort()]


def recorded(caller: Caller, inputs: Inputs, what: str = "example does") -> list[Run]:
    """Run a module once for each part of a batch.

    Raises:
        DataError: the forward method of the module fails. The message starts with ``what``.
    """
    return [_watched(caller, part, what) for part, _ in caller.parts(inputs)]


def watched(module: nn.Module, example: Any, what: str = "example does") -> Run:
    """Run a module once on inputs that it reads; raise DataError if its forward fails."""
    return _watched(Caller(module, TorchRun()), Inputs(example, 0), what)


def _watched(caller: Caller, inputs: Inputs, what: str) -> Run:
    run = Run(inputs.examples)
    handles = [
        part.register_forward_hook(_hook(run, name), with_kwargs=True)
        for name, part in caller.module.named_modules()
        if isinstance(part, HEADS) or is_layer(part)
    ]
    handles.append(caller.module.register_forward_pre_hook(lambda *_: _clear(run)))
    try:
        with torch.no_grad():
            result, run.order = caller.call(inputs)
    except (UnbraidError, UnsortedError):
        raise
    except Exception as error:  # a user's forward may raise any error
        raise DataError(f"{what} not run through the module: {said(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
    run.results = returned(result)
    return run


def _clear(run: Run) -> None:
    """Remove the recorded values, because a module that packs unsorted sequences runs again."""
    run.heads.clear()
    run.layers.clear()


def _hook(run: Run, name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        x = args[0] if args else next(iter(kwargs.values()), None)
        if is_layer(module):
            run.layers.setdefault(name, []).append(_sequences(module, x))
            if isinstance(x, PackedSequence):
                run.sorts |= x.sorted_indices is None
                run.packed = output[0] if isinstance(output[0], PackedSequence) else run.packed
        elif isinstance(x, Tensor):
            if isinstance(module, nn.Conv1d):
                run.convolutions.add(name)
            run.heads.setdefault(name, []).append((channels_last(module, x), channels_last(module, output)))

    return hook


def _sequences(layer: nn.Module, x: Any) -> Tensor:
    """Convert the inputs of a recurrent layer or cell to (rows, T, D)."""
    form = form_of(layer)
    if isinstance(x, PackedSequence):
        return pad_packed_sequence(x, batch_first=True)[0].detach()
    if isinstance(layer, nn.RNNCellBase) or (form is not None and x.dim() < 3):
        return (x.unsqueeze(0) if x.dim() == 1 else x).unsqueeze(1).detach()
    if x.dim() == 2:
        return x.unsqueeze(0).detach()
    return (x if (form or layer).batch_first else x.transpose(0, 1)).detach()


def axis_candidates(tree: Any) -> Iterator[Inputs]:
    """Yield all ways to split an example: along the first or the second axis of each array."""
    arrays = arrays_of(tree)
    seen = set()
    for axis in (0, 1):
        if arrays[0].dim() <= axis:
            continue
        count = arrays[0].shape[axis]
        options: list[list[int | None]] = []
        for leaf in arrays:
            usual = axis if leaf.dim() > axis else 0
            fitting: list[int | None] = [a for a in range(min(leaf.dim(), 2)) if leaf.shape[a] == count]
            options.append(sorted(fitting, key=lambda a: a != usual) or [None])
        options[0] = [axis]
        for axes in itertools.islice(itertools.product(*options), 16):
            if (count, axes) not in seen:
                seen.add((count, axes))
                yield Inputs(tree, count, axis, axes=tuple(axes))


def same_values(first: Run, again: Run) -> bool:
    """Return whether two runs on the same inputs recorded the same values."""
    return all(
        len(calls) == len(again.heads.get(name, []))
        and all(_close(x, y) for (x, _), (y, _) in zip(calls, again.heads[name], strict=True))
        for name, calls in first.heads.items()
    )


def joined(runs: list[Run], head: str, arrangement: Arrangement, examples: int) -> Tensor | None:
    """Join the inputs of the output layer over all parts, (N, F) or (N, T, F)."""
    found = [run.features(head, arrangement) for run in runs]
    if len({part.shape[1:] for part in found}) > 1 or any(
        len(part) != run.examples for part, run in zip(found, runs, strict=True)
    ):
        return None
    return torch.cat(found)[:examples]


class Swapping:
    """Run the example in other orders, to find the axes that move with the examples.

    Args:
        caller: caller of the module.
        inputs: inputs with at least two different examples.
        head: path of the output layer.
        arrangement: arrangement of its calls.

    Attributes:
        turned: the other order of the examples, (N,).
    """

    def __init__(self, caller: Caller, inputs: Inputs, head: str, arrangement: Arrangement) -> None:
        self.caller, self.inputs, self.head, self.arrangement = caller, inputs, head, arrangement
        self.turned = torch.cat([torch.arange(1, inputs.examples), torch.arange(1)])

    @cached_property
    def before(self) -> list[Run]:
        """Runs of the examples in their own order."""
        return recorded(self.caller, self.inputs)

    @cached_property
    def after(self) -> list[Run]:
        """Runs of the examples in the other order."""
        return recorded(self.caller, self.inputs.take(self.turned))

    def features(self) -> Tensor:
        """Return the inputs of the output layer, (N, F) or (N, T, F)."""
        parts = [run.features(self.head, self.arrangement) for run in self.before]
        return torch.cat(parts)[: len(self.inputs)]

    def moves(self) -> bool:
        """Return whether the features move with the examples.

        Raises:
            DataError: all examples are the same.
            UnsupportedLayer: an example changes the results of another one, or a layer reads its sequences in a way
                that is not supported.
        """
        before, after = self._joined(lambda: self.before), self._joined(lambda: self.after)
        if before is None or after is None or before.shape != after.shape or len(before) != len(self.inputs):
            return False
        if not _close(before[self.turned], after):
            return False
        if _close(before[self.turned], before):
            raise DataError("example holds the same example several times: pass at least two different examples.")
        self._check_apart(before)
        return True

    def folds(self) -> dict[str, Fold]:
        """Find the arrangement of several sequences per example in recurrent layers; may raise UnsupportedLayer."""
        found: dict[str, Fold] = {}
        before, after = self.before, self.after
        for site, calls in before[0].layers.items():
            n = before[0].examples
            for call, x in enumerate(calls):
                if len(x) == n:
                    continue
                fold = None
                if len(before) == 1 and len(x) % n == 0 and len(after[0].layers[site]) == len(calls):
                    fold = self._fold(x, after[0].layers[site][call])
                elif len(x) % n == 0 and n == 1:
                    fold = "outer"
                if fold is None or found.get(site, fold) != fold:
                    raise UnsupportedLayer(
                        f"layer {site!r} reads {len(x)} sequences for {n} examples; supported are one "
                        "sequence or the same number of sequences of each example. Check batch_first."
                    )
                found[site] = fold
            if site in found and any(len(x) == n for x in calls):
                raise UnsupportedLayer(f"layer {site!r} reads another number of sequences in each call.")
        return found

    def fixed(self) -> bool:
        """Return whether the module fails on another number of examples."""
        more = self.inputs.take(torch.cat([torch.arange(len(self.inputs)), torch.arange(1)]))
        before, after = self._joined(lambda: self.before), self._features(more)
        return after is None or before is None or len(after) != len(more) or not _close(after[:-1], before)

    def _fold(self, x: Tensor, moved: Tensor) -> Fold | None:
        if x.shape != moved.shape:
            return None
        n = len(self.inputs)
        if _close(x.unflatten(0, (n, -1))[self.turned], moved.unflatten(0, (n, -1))):
            return "outer"
        same = _close(x.unflatten(0, (-1, n))[:, self.turned], moved.unflatten(0, (-1, n)))
        return "inner" if same else None

    def _features(self, inputs: Inputs) -> Tensor | None:
        return self._joined(lambda: recorded(self.caller, inputs), len(inputs))

    def _joined(self, runs: Callable[[], list[Run]], examples: int | None = None) -> Tensor | None:
        try:
            return joined(runs(), self.head, self.arrangement, examples or len(self.inputs))
        except (DataError, UnsortedError, RuntimeError, KeyError):  # the arrangement does not fit other sizes
            return None

    def _check_apart(self, before: Tensor) -> None:
        """Replace examples by others of the batch, in two ways. In at least one way, results must follow the examples.

        One way may drop the longest sequence, which can change the shape of the results.
        """
        half = torch.arange(len(self.inputs)) // 2
        found = []
        for rows in (half, len(self.inputs) - 1 - half.flip(0)):  # in order, for modules that need sorted lengths
            after = self._features(self.inputs.take(rows))
            if after is not None and after.shape == before.shape:
                found.append(_close(before[rows], after))
        if found and not any(found):
            raise UnsupportedLayer(
                "the examples of a batch change each other's results (a mean, softmax or attention over the batch "
                "axis?). Supported are modules that process each example independently."
            )


def _close(first: Tensor, second: Tensor) -> bool:
    if not first.is_floating_point():
        return torch.equal(first, second)
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-3, atol=1e-5)
