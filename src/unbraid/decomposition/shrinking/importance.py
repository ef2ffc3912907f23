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
    module: nn.Module, stacks: Mapping[str, RecurrentStack], batch: Any, sources: Sequence[Source]
) -> dict[str, list[np.ndarray]]:
    """Score the hidden units of recurrent layers.

    Args:
        module: a user's module with RecurrentStacks in it.
        stacks: path -> stack whose units are scored.
        batch: inputs.
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
        linears, results = next(runs_in(watched, [batch], paths, linear_outputs))
        goals = [goal for source in sources for goal in objectives(source, source.read(linears, results))]
        totals = [np.zeros(stacks[path].hidden_size) for path, _ in places]
        zeros = [zero for path, place in places for zero, _ in probes[path][place].seen]
        for goal in goals if all(goal.requires_grad for goal in goals) else []:
            gradients = iter(torch.autograd.grad(goal, zeros, retain_graph=True, allow_unused=True))
            found = [np.zeros_like(total) for total in totals]
            for at, (path, place) in enumerate(places):
                for _, hidden in probes[path][place].seen:
                    gradient = next(gradients)
                    if gradient is not None:
                        found[at] += (gradient * hidden).double().square().sum((0, 1)).numpy()
            whole = max(sum(own.sum() for own in found), 1e-300)
            totals = [total + own / whole for total, own in zip(totals, found, strict=True)]
    scored: dict[str, list[np.ndarray]] = {path: [] for path in probes}
    for total, (path, place) in zip(totals, places, strict=True):
        if not total.any():
            squares = [h.double().square().sum((0, 1)).numpy() for _, h in probes[path][place].seen]
            total = np.sum(squares, axis=0)
        scored[path].append(np.asarray(total))
    return scored
