"""Remove hidden units and fold a linear prediction of them into the weights that read them, in closed form.

On inputs of the class of a module, the value of a removed unit is mostly a linear function of the kept units. Ridge
regression on the observations of the module fits that function. It is folded into every weight that reads the unit: the
recurrent and input weights, the next layer and the output layer. The pre-activations of the kept gates are reproduced
in this way. No gradient step and no labels are needed. Related: spectral pruning of RNNs (arXiv 2105.10832),
GRAIL (arXiv 2602.23795). Shapes: D inputs, H units, H' kept units, G gates, Z entries of z.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unbraid.decomposition.reconstruction.moments import HEAD, RESET, Moments
from unbraid.networks.copying import deep_copy
from unbraid.networks.heads import Head
from unbraid.networks.layers import Edit, Layer
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stages import Dense

RIDGE = 1e-2  # ridge penalty as a share of the mean diagonal; a smaller penalty overfits wide inputs (1:N)


def fold(weight: Tensor, moment: Tensor, kept: Tensor, gone: Tensor, ridge: float = RIDGE) -> Tensor:
    """Compute weights over ``kept`` that best reproduce ``weight`` over all of z.

    Args:
        weight: weights over all of z, (rows, Z).
        moment: mean of z z^T, (Z, Z) float64.
        kept: indices of z to keep, (P,).
        gone: indices of z to remove, (Q,).
        ridge: the value added to the diagonal, as a share of its mean, above 0.

    Returns:
        weights (rows, P) that minimise the mean squared change of the products, with a small ridge penalty.
    """
    if len(gone) == 0:
        return weight[:, kept]
    gram = moment[kept][:, kept]
    diagonal = gram.diagonal()
    pull = torch.diag(ridge * diagonal.mean().clamp(min=1e-12).expand(len(kept)))
    pull[-1, -1] = 0  # the last entry of z is the constant 1
    least = 1e-10 * torch.eye(len(kept), dtype=gram.dtype, device=gram.device)
    shared = torch.linalg.solve(gram + pull + least, moment[kept][:, gone])
    return (weight[:, kept].double() + weight[:, gone].double() @ shared.t()).to(weight.dtype)


def reconstructing(layers: Mapping[str, Layer], kept: Mapping[str, Tensor], moments: Moments) -> Edit:
    """Build the edit that :func:`unbraid.networks.layers.sliced` applies to each layer before it slices it.

    Args:
        layers: layers of the parent.
        kept: layer name -> indices of its kept units, (H',).
        moments: second moments of the module's observations.

    Returns:
        an edit that folds the removed units into the kept weights.
    """

    def edit(name: str, layer: RecurrentLayer | OwnLayer | Dense) -> RecurrentLayer | OwnLayer | Dense:
        if isinstance(layer, OwnLayer):
            return layer  # it is fitted later
        inputs = source_indices(layers, kept, layers[name].sources, layers[name].kernel.shape[1])
        edited = deep_copy(layer)
        if isinstance(edited, Dense) and not layers[name].sources:
            return edited  # it reads no hidden units of a known layer, so there is nothing to fold
        if isinstance(edited, Dense):
            width = edited.weight.shape[1]
            z = torch.cat([edited.weight, edited.bias.unsqueeze(1)], 1)
            stay = torch.cat([inputs, torch.tensor([width])])
            new = fold(z, moments[name], stay, rest(width + 1, stay))
            edited.weight.data[:, inputs], edited.bias.data[:] = new[:, :-1], new[:, -1]
            return edited
        fold_layer(edited, inputs, kept[name], moments, name)
        return edited

    return edit


def reconstructed_head(head: Head, moments: Moments, features: Tensor) -> Head:
    """Fold removed features of an output layer into ``features`` (F',); removed features get zero weights."""
    width = head.weight.shape[1]
    z = torch.cat([head.weight, head.bias.unsqueeze(1)], 1)
    stay = torch.cat([features, torch.tensor([width])])
    new = fold(z, moments[HEAD], stay, rest(width + 1, stay))
    weight = torch.zeros_like(head.weight).index_copy(1, features.to(new.device), new[:, :-1])
    return Head(weight, new[:, -1], head.idle, head.words)


def source_indices(
    layers: Mapping[str, Layer], kept: Mapping[str, Tensor], sources: tuple[str, ...], width: int
) -> Tensor:
    """Return the kept indices of ``width`` features from ``sources``; all if the features are not hidden units.

    A layer that ``kept`` does not name is whole.
    """
    if not sources:
        return torch.arange(width)
    parts, offset = [], 0
    for name in sources:
        parts.append(kept.get(name, torch.arange(layers[name].units)) + offset)
        offset += layers[name].units
    return torch.cat(parts)


def rest(size: int, kept: Tensor) -> Tensor:
    """Return the indices below ``size`` that are not in ``kept``."""
    mask = torch.ones(size, dtype=torch.bool)
    mask[kept] = False
    return torch.arange(size)[mask]


def fold_layer(layer: RecurrentLayer, inputs: Tensor, kept: Tensor, moments: Moments, name: str) -> None:
    """Fold the weights of a recurrent layer in place, into the kept positions of z = [x (D), h (H), 1]."""
    d, h, cell = layer.inputs, layer.units, layer.cell
    one = torch.tensor([d + h])
    bias = cell.input_bias(layer.bias_ih, layer.bias_hh)
    whole = torch.cat([layer.weight_ih, layer.weight_hh, bias.unsqueeze(1)], 1)
    joint = torch.cat([inputs, kept + d, one])
    rows = slice(0, (2 if cell.kind == "gru" else len(cell.gates)) * h)
    _store(layer, rows, fold(whole[rows], moments[name], joint, rest(d + h + 1, joint)), inputs, kept)
    if cell.kind != "gru":
        return
    n = slice(2 * h, 3 * h)
    if not cell.reset_after:
        _store(layer, n, fold(whole[n], moments[name + RESET], joint, rest(d + h + 1, joint)), inputs, kept)
        return
    x_only, h_only = torch.cat([inputs, one]), torch.cat([kept + d, one])
    gone_x = rest(d, inputs)
    read = fold(whole[n], moments[name], x_only, gone_x)
    candidate = cell.candidate_bias(layer.bias_hh)
    assert candidate is not None
    product = torch.cat([layer.weight_ih[n], layer.weight_hh[n], candidate.unsqueeze(1)], 1)
    recurrent = fold(product, moments[name], h_only, rest(h, kept) + d)
    layer.weight_ih.data[n, inputs], layer.weight_hh.data[n, kept] = read[:, :-1], recurrent[:, :-1]
    layer.bias_ih.data[n], layer.bias_hh.data[n] = read[:, -1], recurrent[:, -1]


def _store(layer: RecurrentLayer, rows: slice, new: Tensor, inputs: Tensor, kept: Tensor) -> None:
    layer.weight_ih.data[rows, inputs] = new[:, : len(inputs)]
    layer.weight_hh.data[rows, kept] = new[:, len(inputs) : -1]
    layer.bias_ih.data[rows], layer.bias_hh.data[rows] = new[:, -1], 0
