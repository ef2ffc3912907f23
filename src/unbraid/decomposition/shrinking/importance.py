"""Scores of the hidden units of a user's module: the mean square of (d objective / d h) * h, at every timestep.

The derivative includes the way through later timesteps. Shapes: K = 1 modules, N examples, H hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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


def unit_scores(
    module: nn.Module, stacks: Mapping[str, RecurrentStack], batches: Sequence[Any], sources: Sequence[Source]
) -> dict[str, list[np.ndarray]]:
    """Score the hidden units of recurrent layers.

    Args:
        module: a user's module with RecurrentStacks in it.
        stacks: path -> stack whose units are scored.
        batches: inputs.
        sources: where the scores of the module are.

    Returns:
        path -> scores of the units of each level and direction, S x (H,) float64 >= 0. Units of a module without
        gradients are scored by their mean square alone.
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
    places = [(path, place) for path, own in probes.items() for place in range(len(own))]
    with torch.enable_grad():
        paths = [source.path for source in sources if source.path is not None]
        totals = [np.zeros(stacks[path].hidden_size) for path, _ in places]
        squares = [np.zeros_like(total) for total in totals]
        for linears, results in runs_in(watched, batches, paths, linear_outputs):
            goals = [goal for source in sources for goal in objectives(source, source.read(linears, results))]
            seen = [probes[path][place].seen for path, place in places]
            found = _gradients(goals, seen)
            for at, own in enumerate(seen):
                totals[at] += found[at]
                squares[at] += np.sum([h.double().square().sum((0, 1)).numpy() for _, h in own], axis=0)
                own.clear()
    scored: dict[str, list[np.ndarray]] = {path: [] for path in probes}
    for total, square, (path, _) in zip(totals, squares, places, strict=True):
        scored[path].append(total if total.any() else square)
    return scored


def _gradients(goals: Sequence[Tensor], seen: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> list[np.ndarray]:
    """Sums of (d goal / d h * h) squared of the units of each layer; each goal adds 1 in all."""
    totals = [np.zeros(own[0][1].shape[-1]) for own in seen]
    zeros = [zero for own in seen for zero, _ in own]
    for goal in goals if all(goal.requires_grad for goal in goals) else []:
        gradients = iter(torch.autograd.grad(goal, zeros, retain_graph=True, allow_unused=True))
        found = [np.zeros_like(total) for total in totals]
        for at, own in enumerate(seen):
            for _, hidden in own:
                gradient = next(gradients)
                if gradient is not None:
                    found[at] += (gradient * hidden).double().square().sum((0, 1)).numpy()
        whole = max(sum(own.sum() for own in found), 1e-300)
        totals = [total + own / whole for total, own in zip(totals, found, strict=True)]
    return totals
