"""Second moments of the inputs of layers, per class. Memory does not grow with N, and it has a budget for many classes.

The pre-activations of a layer are linear in its inputs z. So reconstruction only needs the mean of z z^T over the
observations of a module. The observations of its class have half of the weight. Shapes: D inputs, H units, Z entries of
z, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

import numpy as np
import torch
from torch import Tensor

from unbraid.data.targets import Targets
from unbraid.decomposition.reconstruction.states import HeldPass
from unbraid.errors import DataError
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.stages import Dense
from unbraid.networks.watching import watched

HEAD = "(output)"  # key of the features of the output layer
RESET = "(reset)"  # suffix of the second key of a reset-before GRU, whose candidate reads r * h

Moments = dict[str, Tensor]  # key -> (Z, Z) float64; z = [x_t, h_{t-1}, 1], for the output layer [features, 1]


class SampleMoments:
    """Moments of the classes of a sample, within a memory budget.

    The first pass over the sample computes the moments of all examples, and of as many classes as fit. Those of the
    other classes are computed when they are needed, several at a time, by passes over the examples of these classes.

    Args:
        network: the parent network.
        x: examples.
        targets: labels of the examples. With many outputs, only timesteps with a label are used.
        classes: indices of the classes that modules are made for.
        memory: largest number of bytes of stored moments. Those of all examples and of two classes are always stored.
        advance: called after every batch of the first pass with the number of its examples.
        held: stores the values of the first pass.

    Raises:
        DataError: the number of labels per example differs from that of the decisions of the network.
    """

    def __init__(
        self,
        network: Network,
        x: Inputs,
        targets: Targets,
        classes: Sequence[int],
        memory: float = inf,
        advance: Callable[[int], object] = lambda examples: None,
        held: HeldPass | None = None,
    ) -> None:
        self._network, self._x, self._targets, self._classes = network, x, targets, list(classes)
        self._memory, self._everyone, self._stored = memory, Moments(), dict[int, Moments]()
        self._pass(np.arange(len(x)), self._classes, self._everyone, advance, held)

    def of(self, index: int) -> Moments:
        """Return the moments of a class: its observations and those of all others have half of the weight each."""
        if index not in self._stored:
            place, size = self._classes.index(index), self._fitting()
            wanted = self._classes[place - place % size :][:size]  # the same sums in any order of the classes
            self._stored = {}
            self._pass(np.flatnonzero(self._carriers(wanted)), wanted)
        return _halves(self._stored.get(index, {}), self._everyone)

    def mean(self, indices: Sequence[int]) -> Moments:
        """Compute the mean of the moments of several classes."""
        total: Moments = {}
        for index in indices:
            total = {key: total.get(key, 0.0) + own for key, own in self.of(index).items()}
        return {key: own / len(indices) for key, own in total.items()}

    def _fitting(self, read: Mapping[str, Tensor] | None = None) -> int:
        """Return the number of classes whose moments fit into memory; ``read`` has the inputs of all layers."""
        widths = [own.shape[-1] for own in (read or self._everyone).values()]
        each = 8 * sum(width**2 for width in widths)
        return int(min(max(self._memory / max(each, 1) - 2, 1), len(self._classes)))

    def _carriers(self, classes: Sequence[int]) -> np.ndarray:
        """Mark the examples with one of the classes, (N,)."""
        found = np.zeros(len(self._x), bool)
        for index in classes:
            found |= counts(self._targets.members(index)).any(1)
        return found

    def _pass(
        self,
        rows: np.ndarray,
        classes: Sequence[int],
        everyone: Moments | None = None,
        advance: Callable[[int], object] = lambda examples: None,
        held: HeldPass | None = None,
    ) -> None:
        """Run the network on some examples and add to the moments of the classes, and of all examples if given."""
        targets = self._targets.take(rows)
        counted = counts(targets.counted())
        weights = {index: counts(targets.members(index)) for index in classes}
        start = 0
        layers = self._network.layers
        unfolded = {name for name, layer in layers.items() if layer.cell is None and not layer.sources}
        with torch.inference_mode(), watched(layers, _reads) as seen:
            for batch in self._x.take(rows).batches():
                features = self._network.features(to_device(batch, self._network.device))
                read = {key: z for parts in seen.values() for key, z in parts.items()}
                read[HEAD] = with_one(features if features.dim() == 3 else features.unsqueeze(1))
                check_steps(read[HEAD].shape[1], counted.shape[1])
                if held is not None:
                    held.add(read, features)
                read = {key: z for key, z in read.items() if key not in unfolded}
                part = slice(start, start + len(features))
                rest = counted[part].copy()  # decisions of no class that is added below
                adds_up = all(counted.shape[1] in (1, z.shape[1]) for z in read.values())
                for index in classes[: self._fitting(read)]:
                    _add(self._stored.setdefault(index, {}), products := _products(read, weights[index][part]))
                    if adds_up and everyone is not None:
                        rest -= weights[index][part]
                        _add(everyone, products)
                if everyone is not None:
                    _add(everyone, _products(read, rest))
                start += len(features)
                advance(len(features))


def counts(marked: np.ndarray) -> np.ndarray:
    """Convert booleans (N,) or (N, T) to weights (N, 1) or (N, T)."""
    return (marked[:, None] if marked.ndim == 1 else marked).astype(np.float32)


def on_steps(weights: np.ndarray, steps: int) -> np.ndarray:
    """Fit weights (N, T') to a layer of ``steps`` timesteps: per timestep if T' equals it, else one per example."""
    return weights if weights.shape[1] in (1, steps) else weights.max(1, keepdims=True)


def check_steps(steps: int, labelled: int) -> None:
    """Raise DataError if labels are per timestep and their number differs from that of the decisions."""
    if labelled not in (1, steps):
        raise DataError(f"labels have {labelled} timesteps, the network decides at {steps}: expected equal numbers.")


def with_one(values: Tensor) -> Tensor:
    """Append a constant one to the last axis, for the bias."""
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


def joined_with_one(x: Tensor, previous: Tensor) -> Tensor:
    """Join inputs (N, T, D), states (N, T, H) and a constant one along the last axis, with one copy."""
    return torch.cat([x, previous, previous.new_ones(1, 1, 1).expand(*previous.shape[:-1], 1)], dim=-1)


def by_steps(x: Tensor) -> Tensor:
    """Reshape inputs of a dense layer, (N, D) or (N, ..., D), to (N, T, D)."""
    return x.unsqueeze(1) if x.dim() == 2 else x.flatten(1, -2)


def before(layer: Layer, inputs: tuple, h: Tensor) -> Tensor:
    """Return the hidden states (N, T, H) before each timestep of a recurrent layer, from its inputs and outputs."""
    initial = inputs[2] if len(inputs) > 2 else None
    first = torch.zeros_like(h[:, :1]) if initial is None else initial[0].unsqueeze(1)
    return torch.cat([h[:, 1:], first], 1) if layer.module.reverse else torch.cat([first, h[:, :-1]], 1)


def valid_steps(inputs: tuple) -> Tensor | None:
    """Return the mask (N, T) of a recurrent layer; None if no timestep is masked."""
    return inputs[1] if len(inputs) > 1 else None


def _reads(layer: Layer, inputs: tuple, output: tuple) -> dict[str, Tensor]:
    """Return the inputs z of a layer at every timestep: key -> (n, T, Z). Masked timesteps are zero."""
    x, valid, module = inputs[0], valid_steps(inputs), layer.module
    if isinstance(module, OwnLayer):  # its weights are fitted on what they read themselves
        return {}
    if isinstance(module, Dense):
        return {layer.name: with_one(by_steps(x))}
    previous = before(layer, inputs, output[0])
    found = {layer.name: joined_with_one(x, previous)}
    if module.cell.kind == "gru" and not module.cell.reset_after:
        r = module.gates_after(x, previous)[0]
        found[layer.name + RESET] = joined_with_one(x, r * previous)
    if valid is not None:
        found = {key: z * valid.unsqueeze(-1) for key, z in found.items()}
    return found


def _products(read: Mapping[str, Tensor], weights: np.ndarray) -> Moments:
    """Sum z z^T over a batch for all keys, with the weights of the decisions; empty if all weights are 0."""
    found: Moments = {}
    for key, z in read.items() if weights.any() else ():
        own = on_steps(weights, z.shape[1])
        picked = np.flatnonzero(own.any(axis=1))
        first, last = int(picked[0]), int(picked[-1])
        adjacent = last - first + 1 == len(picked)  # often, because a sample is in the order of the classes
        rows = z[first : last + 1] if adjacent else z[torch.from_numpy(picked).to(z.device)]
        flat = rows.reshape(-1, rows.shape[-1])
        scaled = flat
        if own.shape[1] > 1 or (own[picked] != 1).any():
            scaled = (rows * torch.from_numpy(own[picked]).to(z.device).unsqueeze(-1)).reshape(flat.shape)
        found[key] = _gram(scaled, flat).double()
    return found


def _gram(scaled: Tensor, flat: Tensor) -> Tensor:
    """Compute scaled^T flat, which is symmetric: one of the two blocks beside the diagonal is a copy of the other."""
    half = flat.shape[1] // 2
    upper = scaled[:, :half].t() @ flat
    lower = scaled[:, half:].t() @ flat[:, half:]
    return torch.cat([upper, torch.cat([upper[:, half:].t(), lower], 1)])


def _add(sums: Moments, products: Moments) -> None:
    for key, value in products.items():
        sums[key] = sums[key] + value if key in sums else value.clone()


def _halves(own: Moments, everyone: Moments) -> Moments:
    """Average the mean moments of a class and of all others; without others, return those of the class."""
    found = {}
    for key, whole in everyone.items():
        mine = own.get(key, torch.zeros_like(whole))
        means = [part / part[-1, -1] for part in (mine, whole - mine) if part[-1, -1] > 0.5]  # z ends with a 1
        found[key] = torch.stack(means).mean(0) if means else whole
    return found
