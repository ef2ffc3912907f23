"""Compact modules: few nodes, the work of the others reconstructed, the output layer refitted on the module itself.

Shapes: N examples, T timesteps, H units, F features, R head rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.concerns.channeling import channel
from unbraid.concerns.importance import node_scores, strongest
from unbraid.concerns.moments import Moments, collect
from unbraid.concerns.reconstruction import reconstructed_head, reconstructing, source_indices
from unbraid.concerns.sampling import Sample
from unbraid.config import DecompositionConfig, HeadKind, IOArchitecture, Mode
from unbraid.modules.concern import Concern
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import decomposable_layers, head_sources, sliced
from unbraid.networks.network import Network
from unbraid.networks.watching import watched

DEFAULT_KEEP = 0.5  # share of the nodes where neither a size nor a tolerance is given
SCORED = 150  # examples of either side that nodes are scored on: more change the order little
HEAD_RIDGE = 1e-3  # pull of the refitted output layer towards the folded one, as a share of the mean diagonal


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
class Compactor:
    """Makes compact modules of any size from one observation of the sample.

    Args:
        network: the parent.
        x: the sampled examples, in the sample's order.
        sample: which of them count for which class.
        config: head, padding_label and the rest of a decomposition's settings.
        advance: told after each class how much of the work is done.
    """

    network: Network
    x: Inputs
    sample: Sample
    config: DecompositionConfig
    advance: Callable[[float], object] = lambda amount: None
    moments: dict[int, Moments] = field(init=False)
    scores: dict[int, dict[str, np.ndarray]] = field(init=False)
    steps: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.moments = collect(self.network, self.x, self.sample)
        with torch.inference_mode(), watched(self.network.layers, lambda layer, read, given: given[0]) as seen:
            self.network.features(to_device(next(self.x.batches()), self.network.device))
        self.steps = {name: v.shape[1] if v.dim() == 3 else 1 for name, v in seen.items()}
        scoring = self.config.changed(head=HeadKind.SOFTMAX)
        self.scores = {}
        for j in self.sample.positive:
            rows = np.concatenate([_some(self.sample.positive[j]), _some(self.sample.negative[j])])
            self.scores[j] = node_scores(self.network, channel(self.network, j, scoring), self.x.take(rows))
            self.advance(1)

    def make(self, index: int, keep: float) -> Compact:
        """The module of class ``index`` with the share ``keep`` of each recurrent layer's nodes, in (0, 1]."""
        network, layers = self.network, self.network.layers
        kept = {name: torch.arange(layer.units) for name, layer in layers.items()}
        kept |= strongest(self.scores[index], keep)
        moments = self.moments[index]
        body, features = sliced(network.body, kept, reconstructing(layers, kept, moments))
        head = channel(network, index, self.config)
        width = network.spec.features
        inputs = source_indices(layers, kept, head_sources(network.body), width) if features is None else features
        folded = reconstructed_head(head, moments, inputs)
        refitted = self._refitted(index, head, folded, body, inputs, features is not None)
        weights = {n: dict(layer.module.named_parameters()) for n, layer in decomposable_layers(body).items()}
        masks = {name: _mask(layers[name].units, indices) for name, indices in kept.items()}
        concern = Concern(masks, self.steps, Mode.ROLLED)
        return Compact(concern, {n: {k: p.detach() for k, p in w.items()} for n, w in weights.items()}, refitted)

    def _refitted(self, index: int, whole: Head, folded: Head, body: nn.Module, inputs: Tensor, cut: bool) -> Head:
        """The head fitted on the module's own features to what the parent's rows say, near ``folded``; no labels."""
        gram: Tensor | None = None
        target: Tensor | None = None
        with torch.inference_mode():
            for steps in (self.sample.positive[index], self.sample.negative[index]):
                rows = _all(steps)
                for batch in self.x.take(rows).batches():
                    on_device = to_device(batch, self.network.device)
                    own, full = body(on_device), _flat(self.network.features(on_device))
                    f = _flat(own if cut else own[..., inputs])
                    if self.network.io is IOArchitecture.ENCODER_DECODER:  # padding has no features
                        full, f = full[full.any(-1)], f[full.any(-1)]
                    miss = (whole(full) - linear(f, folded.weight[:, inputs], folded.bias)).double()
                    z = torch.cat([f, torch.ones_like(f[:, :1])], 1).double() / max(len(rows), 1) ** 0.5
                    miss = miss / max(len(rows), 1) ** 0.5
                    gram = z.t() @ z if gram is None else gram + z.t() @ z
                    target = z.t() @ miss if target is None else target + z.t() @ miss
        assert gram is not None and target is not None
        ridge = HEAD_RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        step = torch.linalg.solve(gram + ridge, target).t().to(folded.weight.dtype)
        weight = folded.weight.detach().clone()
        weight[:, inputs] += step[:, :-1]
        return Head(weight, folded.bias + step[:, -1], folded.idle)


def _some(steps: list[np.ndarray]) -> np.ndarray:
    rows = _all(steps)
    return rows[np.linspace(0, len(rows) - 1, min(SCORED, len(rows))).astype(int)]


def _all(steps: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(steps))


def _flat(values: Tensor) -> Tensor:
    return values.reshape(-1, values.shape[-1])


def _mask(units: int, indices: Tensor) -> np.ndarray:
    mask = np.zeros(units, bool)
    mask[indices.numpy()] = True
    return mask
