"""Scores of the hidden units of a user's module.

Units of recurrent layers are scored by the mean square of (d objective / d h) * h, at every timestep. The derivative
includes the way through later timesteps. Units of linear layers are scored by
:mod:`unbraid.decomposition.reconstruction.elimination`. Shapes: K = 1 modules, N examples, M rows, H hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.decomposition.reconstruction.elimination import WIDEST, elimination_scores
from unbraid.decomposition.shrinking.running import runs_in
from unbraid.decomposition.shrinking.sources import Source, linear_outputs, objectives
from unbraid.networks.cells import State
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.removal import Removal
from unbraid.networks.stack import RecurrentStack


class _Probe(Removal):
    """Remove nothing; add zeros to every hidden state, so that gradients can be read from them.

    Attributes:
        seen: zeros and hidden states of every timestep of every call, each (K, N, H).
    """

    def __init__(self) -> None:
        super().__init__(torch.ones(1, 1, 1))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def leaves(self, state: State, t: int) -> State:
        zeros = torch.zeros_like(state[0], requires_grad=True)
        self.seen.append((zeros, state[0].detach()))
        return (state[0] + zeros, *state[1:])


class _LinearProbe:
    """Add zeros to the outputs of a linear layer, so that gradients can be read from them.

    Args:
        units: H.

    Attributes:
        seen: zeros and outputs of every call, each (..., H).
    """

    def __init__(self, units: int) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.wide = units > WIDEST
        self._count, self._sum, self._saliences = 0, np.zeros(units), np.zeros(units)
        size = 0 if self.wide else units
        self._products, self._metric = np.zeros((size, size)), np.zeros((size, size))

    def hook(self, module: nn.Module, args: tuple, result: Tensor) -> Tensor:
        """Replace the outputs of the layer by their sum with the zeros."""
        zeros = torch.zeros_like(result, requires_grad=True)
        self.seen.append((zeros, result.detach()))
        return result + zeros

    def add(self) -> None:
        """Add the outputs of a batch, and forget them."""
        for _, values in self.seen:
            h = values.reshape(-1, values.shape[-1]).double()
            self._count += len(h)
            self._sum += h.sum(0).numpy()
            if not self.wide:
                self._products += (h.t() @ h).numpy()
        self.seen.clear()

    def add_gradients(self, found: Sequence[Tensor | None]) -> None:
        """Add the gradients of one objective; each objective has the same weight."""
        metric, saliences = np.zeros_like(self._metric), np.zeros_like(self._saliences)
        for gradient, (_, values) in zip(found, self.seen, strict=True):
            if gradient is None:
                continue
            g, h = (tensor.reshape(-1, tensor.shape[-1]).double() for tensor in (gradient, values))
            saliences += (g * h).square().sum(0).numpy()
            if not self.wide:
                metric += (g.t() @ g).numpy()
        self._metric += metric / max(metric.trace(), TINY)
        self._saliences += saliences / max(saliences.sum(), TINY)

    def scores(self) -> np.ndarray:
        """Return the scores of the units, (H,) float64 >= 0, whose sum is 1."""
        found = self._saliences
        if not self.wide and self._count:
            mean = self._sum / self._count
            metric = self._metric if self._metric.any() else np.eye(len(mean))
            found = elimination_scores(self._products / self._count - np.outer(mean, mean), metric)
        return found / max(found.sum(), TINY)


TINY = 1e-300


def unit_scores(
    module: nn.Module,
    stacks: Mapping[str, RecurrentStack],
    linears: Sequence[str],
    batches: Sequence[Any],
    sources: Sequence[Source],
) -> dict[str, list[np.ndarray]]:
    """Score the hidden units of layers.

    Args:
        module: a user's module with RecurrentStacks in it.
        stacks: path -> stack whose units are scored.
        linears: paths of the nn.Linear layers whose units are scored.
        batches: inputs.
        sources: where the scores of the module are.

    Returns:
        path -> scores of the units of each level and direction, S x (H,) float64 >= 0; S is 1 for a linear layer. Units
        of a module without gradients are scored by their mean square alone.
    """
    probes = {path: [_Probe() for _ in stack.layers] for path, stack in stacks.items()}
    memo: dict[int, Any] = {id(p): p for p in module.parameters()}
    for path, stack in stacks.items():
        layers: list[nn.Module] = [
            PrunedRecurrentLayer(layer, probe, 1, opens=False, interleaved=True)  # type: ignore[arg-type]
            for layer, probe in zip(stack.layers, probes[path], strict=True)
        ]
        memo[id(stack)] = stack.exchanged(layers, [None] * len(layers))
    watched = copied(module, memo)
    dense = {path: _LinearProbe(watched.get_submodule(path).out_features) for path in linears}  # type: ignore[arg-type]
    for path, linear_probe in dense.items():
        watched.get_submodule(path).register_forward_hook(linear_probe.hook)
    places = [(path, place) for path, own in probes.items() for place in range(len(own))]
    with torch.enable_grad():
        paths = [source.path for source in sources if source.path is not None]
        totals = [np.zeros(stacks[path].hidden_size) for path, _ in places]
        squares = [np.zeros_like(total) for total in totals]
        for scores, results in runs_in(watched, batches, paths, linear_outputs):
            goals = [goal for source in sources for goal in objectives(source, source.read(scores, results))]
            seen = [probes[path][place].seen for path, place in places]
            found = _gradients(goals, seen, list(dense.values()))
            for at, own in enumerate(seen):
                totals[at] += found[at]
                squares[at] += np.sum([h.double().square().sum((0, 1)).numpy() for _, h in own], axis=0)
                own.clear()
            for linear_probe in dense.values():
                linear_probe.add()
    scored: dict[str, list[np.ndarray]] = {path: [] for path in probes}
    for total, square, (path, _) in zip(totals, squares, places, strict=True):
        scored[path].append(total if total.any() else square)
    return scored | {path: [probe.scores()] for path, probe in dense.items()}


def _gradients(
    goals: Sequence[Tensor], seen: Sequence[Sequence[tuple[Tensor, Tensor]]], dense: Sequence[_LinearProbe]
) -> list[np.ndarray]:
    """Sums of (d goal / d h * h) squared of the units of each recurrent layer; each goal adds 1 in all.

    The gradients of linear layers are added to their probes.
    """
    totals = [np.zeros(own[0][1].shape[-1]) for own in seen]
    zeros = [zero for own in [*seen, *(probe.seen for probe in dense)] for zero, _ in own]
    for goal in goals if all(goal.requires_grad for goal in goals) else []:
        gradients = iter(torch.autograd.grad(goal, zeros, retain_graph=True, allow_unused=True))
        found = [np.zeros_like(total) for total in totals]
        for at, own in enumerate(seen):
            for _, hidden in own:
                gradient = next(gradients)
                if gradient is not None:
                    found[at] += (gradient * hidden).double().square().sum((0, 1)).numpy()
        for probe in dense:
            probe.add_gradients([next(gradients) for _ in probe.seen])
        whole = max(sum(own.sum() for own in found), TINY)
        totals = [total + own / whole for total, own in zip(totals, found, strict=True)]
    return totals
