"""Initial weights for training, with the distributions of Keras."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.init import ones_, orthogonal_, uniform_, xavier_uniform_

from unbraid.networks.encoder_decoder import EncoderDecoder
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec
from unbraid.networks.stages import Dense, Embedding, StageSequence


def initial_weights(spec: NetworkSpec | EncoderDecoderSpec, seed: int) -> dict[str, Tensor]:
    """Draw the weights of a network before training, by name. The global random state is neither used nor changed.

    Kernels are Glorot uniform, recurrent kernels are orthogonal, and embeddings are uniform in [-0.05, 0.05]. Biases
    are 0, except 1 for the forget gate of an LSTM.
    """
    generator = torch.Generator().manual_seed(seed)
    body: nn.Module
    body = EncoderDecoder(spec) if isinstance(spec, EncoderDecoderSpec) else StageSequence(spec.stages, spec.features)
    for module in body.modules():
        _draw(module, generator)
    weights = {f"body.{name}": parameter.detach() for name, parameter in body.named_parameters()}
    weights["head.weight"] = xavier_uniform_(torch.empty(spec.classes, spec.features), generator=generator)
    weights["head.bias"] = torch.zeros(spec.classes)
    return weights


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, Embedding):
        uniform_(module.weight, -0.05, 0.05, generator=generator)
    elif isinstance(module, Dense):
        xavier_uniform_(module.weight, generator=generator)
    elif isinstance(module, RecurrentLayer):
        xavier_uniform_(module.weight_ih, generator=generator)
        orthogonal_(module.weight_hh, generator=generator)
        if module.cell.kind == "lstm":
            ones_(module.bias_ih[module.units : 2 * module.units])
