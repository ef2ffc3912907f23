"""Concern modularization, called channeling (Imtiaz et al. 2023, Alg. 4): build the output layer of a module.

Shapes: C classes, F features.
"""

from __future__ import annotations

import torch

from unbraid.config import DecompositionConfig, HeadKind, IOArchitecture, RemovalConfig
from unbraid.errors import DataError
from unbraid.networks.heads import Head
from unbraid.networks.network import Network


def channel(network: Network, index: int, config: DecompositionConfig) -> Head:
    """Build the output layer of a module from the C columns of the parent's output layer.

    ``mean`` keeps the dominant column and the mean of the others, as in the paper. ``softmax`` keeps all columns, so
    that P(dominant) equals the softmax probability of the parent. With sigmoid outputs or
    numbers, a module keeps its own column.
    Modules of an encoder-decoder keep the whole output layer.

    Args:
        network: the parent network.
        index: index of the dominant class.
        config: the settings; head, idle_columns and the padding labels are used.

    Returns:
        the output layer over all F features.
    """
    weight, bias = network.head.weight.detach(), network.head.bias.detach()
    if network.io is IOArchitecture.ENCODER_DECODER:
        return Head(weight, bias, words=torch.arange(len(weight), device=weight.device))
    if network.binary:
        sign = 1.0 if index == 1 else -1.0
        return Head(sign * weight[:1], sign * bias[:1])
    if network.spec.output != "softmax":
        return Head(weight[index : index + 1], bias[index : index + 1])
    others = [c for c in range(network.spec.classes) if c != index]
    if config.head is HeadKind.SOFTMAX:
        rows = [index, *others]
        return Head(weight[rows], bias[rows])
    others = [c for c in others if c not in config.padding_labels]
    if not others:
        raise DataError(
            f"with head={str(config.head)!r} a module needs another class that is not padding: use head='softmax'."
        )
    two = torch.stack([weight[index], weight[others].mean(0)])
    idle = len(others) - 1 if isinstance(config, RemovalConfig) and config.idle_columns else 0
    return Head(two, torch.stack([bias[index], bias[others].mean(0)]), idle)
