"""Distillation of a module of a language: gradient steps towards the next-word probabilities of its parent.

No labels are used. The softmax is over the words of the language only, because the output layer dominates the cost.
Shapes: N pairs, S source words, T target words, F features, R words kept, O words of the language.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from unbraid.config import ReconstructConfig
from unbraid.decomposition.reconstruction.distillation import descended
from unbraid.modules.module import ConcernModule
from unbraid.networks.encoder_decoder import EncoderDecoder, bridge_shapes, bridge_weights, set_bridges
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import decomposable_layers
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.progress import Advance

FIRST_RATE = 1e-2  # learning rate of the first step; it decays along a cosine
PAIRS = 64  # sentence pairs of a step

Batch = tuple[Tensor, Tensor]  # source (N, S) and target (N, T)


def refined_language(module: ConcernModule, x: Inputs, advance: Advance) -> ConcernModule:
    """Distil a reconstructed module: train its decoder and the output rows of the words of its language.

    The first state of the decoder then reads all units of the encoder, since it carries the whole sentence.

    Args:
        module: the module; its layers change in place, so do not use it afterwards.
        x: pairs of its language. ``config.refine`` steps use them in an order that ``config.seed`` sets.
        advance: called after each step.
    """
    parent, head, config = module.parent, module.head, module.config
    assert isinstance(config, ReconstructConfig)
    whole, small = parent.body, module.body
    assert isinstance(whole, EncoderDecoder) and isinstance(small, EncoderDecoder)
    assert isinstance(parent.spec, EncoderDecoderSpec) and head.words is not None
    end = parent.spec.languages[module.index].end  # the end tag is never an input, so no target holds it
    words = torch.from_numpy(np.setdiff1d(np.append(x.tree["target"], end), [0])).to(parent.device)
    weight, bias = parent.head.weight[words], parent.head.bias[words]

    def loss(batch: Batch, rows: Tensor) -> Tensor:
        source, target = batch
        said = target != 0
        with torch.no_grad():
            states = whole.encode(source)
            wanted = torch.softmax(linear(whole.taught(states, target)[said], weight, bias), -1)
        features = small.taught(small.handed(states), target)[said]
        return cross_entropy(linear(features, rows[:, :-1], rows[:, -1]), wanted)

    places = torch.searchsorted(head.words, words)
    rows = torch.cat([head.weight, head.bias.unsqueeze(1)], 1)
    rates = (FIRST_RATE * (1 + math.cos(math.pi * step / config.refine)) / 2 for step in range(config.refine))
    batches = (to_device(batch, parent.device) for batch in _batches(x, config.seed, advance))
    set_bridges(small, {name: torch.zeros(shape) for name, shape in bridge_shapes(small).items()})
    more = list(bridge_weights(small).values())
    rows[places] = descended(small, module.concern.kept, rows[places], batches, loss, rates, more)
    return _with_rows(module, rows)


def _with_rows(module: ConcernModule, rows: Tensor) -> ConcernModule:
    """Make the module with its current layers and the given rows over [features, 1], (R, F + 1)."""
    weight = module.whole_head.weight.clone()
    weight[:, module.features] = rows[:, :-1]
    head = Head(weight, rows[:, -1], module.head.idle, module.head.words)
    weights = {name: dict(layer.module.named_parameters()) for name, layer in decomposable_layers(module.body).items()}
    assert isinstance(module.body, EncoderDecoder)
    bridges = {name: weight.detach() for name, weight in bridge_weights(module.body).items()}
    return ConcernModule(
        module.parent, module.index, module.concern, head, module.config, weights=weights, bridges=bridges
    )


def _batches(x: Inputs, seed: int, advance: Advance) -> Iterator[Batch]:
    """Yield batches of all pairs in random order, without end. Target columns of padding only are dropped."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x), PAIRS):
            tree = next(x.take(order[start : start + PAIRS]).batches())
            advance(1)
            yield tree["source"], tree["target"][:, (tree["target"] != 0).any(0)]
