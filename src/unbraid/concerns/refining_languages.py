"""Refining a language's module by gradient steps: it comes to expect the next words that its parent expects. No labels.

The output layer dominates a translator, so a step compares some words with one another, not all: those of its pairs,
and others of the language drawn by chance.
Shapes: N pairs, S source words, T target words, F features, O words of the language, D words compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from unbraid.concerns.refining import descended
from unbraid.modules.module import ConcernModule
from unbraid.networks.encoder_decoder import EncoderDecoder
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs
from unbraid.networks.layers import decomposable_layers
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.progress import Advance

FIRST_RATE = 1e-2  # of learning; it falls along a cosine
PAIRS = 64  # a step
DRAWN = 400  # words of the language a step, besides those of its pairs

Batch = tuple[Tensor, Tensor, Tensor]  # source (N, S), target (N, T), which of the O words are compared (D,)


def refined_language(module: ConcernModule, x: Inputs, advance: Advance) -> ConcernModule:
    """A reconstructed module with other weights in its decoder and in the output rows of its language's words.

    Args:
        module: used up, as its layers change in place.
        x: pairs of its language; ``config.refine`` steps go through them in an order by ``config.seed``.
        advance: told after each step.
    """
    parent, head, config = module.parent, module.head, module.config
    whole, small = parent.body, module.body
    assert isinstance(whole, EncoderDecoder) and isinstance(small, EncoderDecoder)
    assert isinstance(parent.spec, EncoderDecoderSpec) and head.words is not None
    end = parent.spec.languages[module.index].end
    own = _words(x.tree["target"], end)
    words = torch.from_numpy(own).to(parent.device)
    wanted_rows, wanted_bias = parent.head.weight[words], parent.head.bias[words]

    def loss(batch: Batch, rows: Tensor) -> Tensor:
        source, target, some = batch
        said = target != 0
        with torch.no_grad():
            states = whole.encode(source)
            scores = linear(whole.taught(states, target)[said], wanted_rows[some], wanted_bias[some])
            wanted = torch.softmax(scores, -1)
        features = small.taught(small.handed(states), target)[said]
        return cross_entropy(linear(features, rows[some, :-1], rows[some, -1]), wanted)

    places = torch.searchsorted(head.words, words)
    both = torch.cat([head.weight, head.bias.unsqueeze(1)], 1)
    rates = (FIRST_RATE * (1 + math.cos(math.pi * step / config.refine)) / 2 for step in range(config.refine))
    both[places] = descended(small, both[places], _batches(x, own, end, config.seed, parent.device, advance), loss, rates)
    weight = module.whole_head.weight.clone()
    weight[:, module.features] = both[:, :-1]
    weights = {name: dict(layer.module.named_parameters()) for name, layer in decomposable_layers(small).items()}
    new = Head(weight, both[:, -1], head.idle, head.words)
    return ConcernModule(parent, module.index, module.concern, new, config, weights=weights)


def _batches(
    x: Inputs, own: np.ndarray, end: int, seed: int, device: torch.device, advance: Advance
) -> Iterator[Batch]:
    """Every pair once, and again in another order, without end."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x), PAIRS):
            source, target = (x.take(order[start : start + PAIRS]).tree[side] for side in ("source", "target"))
            target = target[:, : int((target != 0).sum(1).max())]
            drawn = rng.choice(len(own), min(DRAWN, len(own)), replace=False)
            some = np.union1d(np.searchsorted(own, _words(target, end)), drawn)
            one, two, three = (torch.from_numpy(part).to(device) for part in (source, target, some))
            yield one, two, three
            advance(1)


def _words(target: np.ndarray, end: int) -> np.ndarray:
    """The words of targets, ascending, and the language's last token, which is never fed."""
    return np.setdiff1d(np.append(target, end), [0])
