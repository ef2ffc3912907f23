"""Compact modules: few nodes, the work of the others reconstructed, the output layer refitted on the module itself.

Shapes: N examples, T timesteps, H units, F features, R head rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import DecompositionConfig, HeadKind, Mode
from unbraid.data.targets import Targets
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.reconstruction.distillation import refined
from unbraid.decomposition.reconstruction.folding import reconstructed_head, reconstructing, source_indices
from unbraid.decomposition.reconstruction.importance import combined, node_scores, strongest
from unbraid.decomposition.reconstruction.layer_refit import Regression, refit
from unbraid.decomposition.reconstruction.moments import Moments, collect, counts, mean_moments, with_one
from unbraid.decomposition.reconstruction.output_rows import decided
from unbraid.decomposition.reconstruction.parent_decisions import ParentDecisions, even, read_decisions
from unbraid.modules.concern import Concern
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import decomposable_layers, head_sources, sliced
from unbraid.networks.network import Network
from unbraid.networks.watching import watched

DEFAULT_KEEP = 0.5  # share of the nodes where neither a size nor a tolerance is given
SCORED = 100  # examples with and without the class that its nodes are scored on: more change the order little
REFITTED = 200  # the same for refitting layers, shared out among classes of one body
FEWEST = 20


@dataclass(frozen=True)
class Compact:
    """What a compact module consists of.

    Attributes:
        concern: the nodes it keeps.
        weights: layer -> parameter name -> the smaller layer's tensor.
        head: over all of the parent's features, zeros at those that went.
    """

    concern: Concern
    weights: dict[str, dict[str, Tensor]]
    head: Head


@dataclass
class Reconstruction:
    """Makes compact modules of any size from one observation of the sample.

    Args:
        network: the parent.
        x: the sampled examples.
        targets: their labels.
        classes: those that modules are made for.
        config: head, padding_label and the rest of a decomposition's settings.
        advance: told after each class how much of the work is done.

    Raises:
        DataError: per-timestep labels that do not line up with the network's decisions.
    """

    network: Network
    x: Inputs
    targets: Targets
    classes: Sequence[int]
    config: DecompositionConfig
    advance: Callable[[float], object] = lambda amount: None
    moments: dict[int, Moments] = field(init=False)
    scores: dict[int, dict[str, np.ndarray]] = field(init=False)
    steps: dict[str, int] = field(init=False)
    deciding: ParentDecisions = field(init=False)

    def __post_init__(self) -> None:
        self.moments = collect(self.network, self.x, self.targets, self.classes)
        self.deciding = read_decisions(self.network, self.x, self.targets)
        with torch.inference_mode(), watched(self.network.layers, lambda layer, read, given: given[0]) as seen:
            self.network.features(to_device(next(self.x.batches()), self.network.device))
        self.steps = {name: v.shape[1] if v.dim() == 3 else 1 for name, v in seen.items()}
        self.scores = {}
        for j in self.classes:
            rows = self._with_and_without(j, SCORED)
            head = channel(self.network, j, self.config.changed(head=HeadKind.SOFTMAX))
            counted = self.targets.take(rows).counted()
            self.scores[j] = node_scores(self.network, head, self.x.take(rows), counted)
            self.advance(1)

    def make(self, index: int, keep: float) -> Compact:
        """The module of class ``index`` with the share ``keep`` of each recurrent layer's nodes, in (0, 1]."""
        head = channel(self.network, index, self.config)
        return self.make_together([index], keep, head, [range(len(head.bias))])

    def make_together(self, indices: Sequence[int], keep: float, head: Head, own: Sequence[Sequence[int]]) -> Compact:
        """One body for the classes ``indices`` together.

        Args:
            indices: the classes.
            keep: share of each recurrent layer's nodes, in (0, 1].
            head: all the rows that their heads need, over the parent's features.
            own: which of these rows are each class's, the dominant one first.
        """
        network, layers = self.network, self.network.layers
        kept = {name: torch.arange(layer.units) for name, layer in layers.items()}
        kept |= strongest(combined([self.scores[j] for j in indices]), keep)
        moments = mean_moments([self.moments[j] for j in indices])
        body, features = sliced(network.body, kept, reconstructing(layers, kept, moments))
        if any(len(indices) < layers[name].units for name, indices in kept.items()):
            self._refit(indices, kept, body)
        width = network.spec.features
        inputs = source_indices(layers, kept, head_sources(network.body), width) if features is None else features
        folded = reconstructed_head(head, moments, inputs)
        fitted = self._fitted(indices, head, folded, own, _Features(body, inputs, features is not None))
        weights = {n: dict(layer.module.named_parameters()) for n, layer in decomposable_layers(body).items()}
        masks = {name: _mask(layers[name].units, indices) for name, indices in kept.items()}
        concern = Concern(masks, self.steps, Mode.ROLLED)
        return Compact(concern, {n: {k: p.detach() for k, p in w.items()} for n, w in weights.items()}, fitted)

    def _refit(self, indices: Sequence[int], kept: dict[str, Tensor], body: nn.Module) -> None:
        """Fit the layers of ``body`` in place, half on the classes' own decisions and half on the others'."""
        most = max(REFITTED // len(indices), FEWEST)  # they run as one batch
        rows = np.unique(np.concatenate([self._with_and_without(j, most) for j in indices]))
        targets = self.targets.take(rows)
        own = np.any([targets.members(j) for j in indices], axis=0)
        sides = [counts(own), counts(targets.counted() & ~own)]
        weights = sum(side / max(float(side.sum()), 1) for side in sides)
        refit(self.network.body, body, kept, self.x.take(rows), self.network.device, np.asarray(weights))

    def _fitted(
        self, indices: Sequence[int], whole: Head, folded: Head, own: Sequence[Sequence[int]], features: _Features
    ) -> Head:
        """The rows fitted on the module's own features to what the parent's rows say, and its probabilities."""
        places = features.inputs
        regression = Regression(torch.cat([folded.weight[:, places], folded.bias.unsqueeze(1)], 1))
        seen = []
        with torch.inference_mode():
            for batch, used, parents in self.deciding.batches(self.network.device):
                seen.append(features(batch)[used])
                regression.add(with_one(seen[-1]), whole(parents), used.nonzero()[:, 0])
            new = regression.solved()
            deciding = self.config.head is not HeadKind.MEAN and whole.words is None
            asked = [channel(self.network, j, self.config.changed(head=HeadKind.SOFTMAX)) for j in indices if deciding]
            if deciding:
                chances = [torch.sigmoid(head.margin(torch.cat(self.deciding.features))) for head in asked]
                place = 1 if self.config.head is HeadKind.FITTED and len(own[0]) == 2 else 0
                margins = [(list(rows), place, chance) for rows, chance in zip(own, chances, strict=True)]
                new = decided(torch.cat(seen), new, margins)
        if self.config.refine and deciding:
            new = refined(features.body, features, new, own, asked, self.deciding, self.config.refine)
        weight = folded.weight.detach().clone()
        weight[:, places] = new[:, :-1]
        return Head(weight, new[:, -1], folded.idle, folded.words)

    def _with_and_without(self, index: int, most: int) -> np.ndarray:
        """Examples that carry a class somewhere and as many that do not, evenly spread, at most ``most`` of each."""
        carries = counts(self.targets.members(index)).any(1)
        labelled = counts(self.targets.counted()).any(1)
        return np.concatenate([even(np.flatnonzero(side & labelled), most) for side in (carries, ~carries)])


@dataclass(frozen=True)
class _Features:
    """A sliced body's features where they are its nodes: cut to what is left of them, or zeros where nodes are gone."""

    body: nn.Module
    inputs: Tensor
    cut: bool

    def __call__(self, x: Any) -> Tensor:
        found = self.body(x)
        return found if self.cut else found[..., self.inputs]


def _mask(units: int, indices: Tensor) -> np.ndarray:
    mask = np.zeros(units, bool)
    mask[indices.numpy()] = True
    return mask
