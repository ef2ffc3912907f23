"""Concern modularization, "channeling" (Imtiaz et al. 2023, Alg. 4): the output layer of one module.

Shapes: C classes, F features.
"""

from __future__ import annotations

import torch

from unbraid.config import DecompositionConfig, HeadKind, IOArchitecture
from unbraid.networks.heads import Head
from unbraid.networks.network import Network


def channel(network: Network, index: int, config: DecompositionConfig) -> Head:
    """Turn the output layer's C columns into one module's head.

    ``mean`` keeps the dominant column and the mean of the others (the paper's); ``softmax`` keeps them all, so that
    P(dominant) is exactly the parent's softmax probability. With sigmoid outputs a module is its own column. Encoder-
    decoder modules keep the whole output layer.

    Args:
        network: the parent.
        index: the dominant class.
        config: head, idle_columns, padding_label.

    Returns:
        the head over all F features.
    """
    weight, bias = network.head.weight.detach(), network.head.bias.detach()
    if network.io is IOArchitecture.ENCODER_DECODER:
        return Head(weight, bias, words=torch.arange(len(weight), device=weight.device))
    if network.binary:
        sign = 1.0 if index == 1 else -1.0
        return Head(sign * weight[:1], sign * bias[:1])
    if network.spec.output == "sigmoid":
        return Head(weight[index : index + 1], bias[index : index + 1])
    others = [c for c in range(network.spec.classes) if c != index]
    if config.head is HeadKind.SOFTMAX:
        rows = [index, *others]
        return Head(weight[rows], bias[rows])
    others = [c for c in others if c != config.padding_label]
    two = torch.stack([weight[index], weight[others].mean(0)])
    idle = len(others) - 1 if config.idle_columns else 0
    return Head(two, torch.stack([bias[index], bias[others].mean(0)]), idle)
