"""Decompose a network of dense ReLU layers as the release of Pan and Rajan (ESEC/FSE 2020) does.

The release changes the weights of a module example by example. The functions here compute the result of its loops in
closed form. Its node values are pre-activations that are computed *without* the ReLU between layers, and its output
layer is never changed by an example of the class. Shapes: N examples, D inputs, H units, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LIGHT = 0.05  # a weight of a smaller absolute value counts as none when units are merged
DECIDED = 0.5  # softmax above which an example of another class restores its output column


@dataclass(frozen=True)
class Weights:
    """Weights of a dense layer: ``weight`` (H, D) and ``bias`` (H,)."""

    weight: Tensor
    bias: Tensor


def node_values(layers: Sequence[Weights], x: Tensor) -> list[Tensor]:
    """Compute the values of the nodes of each layer, (N, H), without the ReLU between layers."""
    found = []
    for layer in layers:
        x = x @ layer.weight.t() + layer.bias
        found.append(x)
    return found


def module_layers(layers: Sequence[Weights], positive: Tensor, negative: Tensor) -> list[Weights]:
    """Compute the weights of one module: concern identification (CI), then tangling identification (TI-SNE).

    CI, one example of the class after the other: a hidden unit with a value <= 0 loses its incoming weights, its bias
    and the weights to the next hidden layer. A unit with a value > 0 gets the weights of the parent at the first
    example; later its positive weights stay only if they are still there, and its negative weights become 0. TI, on
    examples of other classes: a unit with a value > 0 gets all incoming weights and its bias back.

    Args:
        layers: the hidden layers of the parent and its output layer.
        positive: examples of the class, (N, D), in order.
        negative: examples of other classes, (M, D).

    Returns:
        hidden layers and output layer of the sizes of the parent.
    """
    own, others = node_values(layers, positive), node_values(layers, negative)
    found = []
    lost: Tensor | None = None  # units of the layer below whose weights to this layer were set to 0
    for layer, seen, tangled in zip(layers[:-1], own, others, strict=False):
        active = seen > 0
        found.append(_hidden(layer, active, (tangled > 0).any(0), lost))
        lost = ~active[1:].all(0)  # the first example gives every weight of an active unit
    restored = (torch.softmax(others[-1], 1) > DECIDED).any(0) | bool(len(positive))
    output = layers[-1]
    found.append(Weights(output.weight * restored.unsqueeze(1), output.bias * restored))
    return found


def _hidden(layer: Weights, active: Tensor, tangled: Tensor, lost: Tensor | None) -> Weights:
    weight = layer.weight
    if len(active) > 1:
        weight = weight.clamp(min=0)
        weight = weight if lost is None else weight * ~lost
    always = active.all(0) if len(active) else torch.zeros_like(tangled)
    last = active[-1] if len(active) else torch.zeros_like(tangled)
    weight = torch.where(tangled.unsqueeze(1), layer.weight, weight * always.unsqueeze(1))
    return Weights(weight, layer.bias * (tangled | last))


def merge_units(hidden: Weights, output: Weights, index: int) -> tuple[Weights, Weights]:
    """Merge the last hidden units that have (almost) no weight to the class into the first of them (CM-RIE).

    The first unit gets the mean of their incoming weights, and the other units lose theirs. Biases do not change. The
    weights of all merged units to other classes become 0, but for one column that the release fills again.

    Args:
        hidden: the last hidden layer, (F, D).
        output: the output layer, (C, F).
        index: the class of the module.
    """
    weight, incoming = output.weight.clone(), hidden.weight.clone()
    light = (weight[index].abs() < LIGHT).nonzero()[:, 0]
    other = 1 if index == 0 else 0  # the column that takes over those of the other classes
    rest = [c for c in range(len(weight)) if c != index]
    for unit in light.tolist():
        values = weight[rest, unit]
        filled = weight[other, unit] == 0 and (values != 0).any()  # else the release clears this column again
        mean = values[values != 0].mean() if filled else weight.new_zeros(())
        weight[rest, unit] = 0
        weight[other, unit] = mean
    if len(light) > 1:
        weight[other, light[0]] = weight[1 - other, light].mean()
        weight[other, light[1:]] = 0
        incoming[light[0]] = incoming[light].mean(0)
        incoming[light[1:]] = 0
    return Weights(incoming, hidden.bias), Weights(weight, output.bias)


def channeled(output: Weights, index: int) -> Weights:
    """Return the two columns of the output layer of a module, the class first, then the mean of the others (CM-C).

    The release divides the sum of the other biases by C instead of C - 1, except for class 0.
    """
    rest = [c for c in range(len(output.bias)) if c != index]
    divisor = len(rest) if index == 0 else len(output.bias)
    weight = torch.stack([output.weight[index], output.weight[rest].mean(0)])
    return Weights(weight, torch.stack([output.bias[index], output.bias[rest].sum() / divisor]))
