"""Expand the weights of a sliced module to the whole parent network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unbraid.errors import FormatError, quoted
from unbraid.modules.concern import Concern, kept_units
from unbraid.networks.layers import sliced
from unbraid.networks.network import Network
from unbraid.storage.layout import body_weights, only_words


def expanded(skeleton: Network, own: Mapping[str, Tensor], concern: Concern, words: Tensor | None) -> dict[str, Tensor]:
    """Return the weights of the whole network: the stored values at their positions, and zeros elsewhere.

    Args:
        skeleton: structure of the parent network.
        own: the stored slices.
        concern: the nodes that the module keeps.
        words: the target words that a module of a language keeps.

    Raises:
        FormatError: a tensor is missing, not used, or of another type or shape.
    """
    rows, columns = (_places(skeleton, axis, concern, words) for axis in (0, 1))
    for name, place in rows.items():
        found = own.get(name)
        if found is None or found.shape != place.shape or found.dtype != torch.float32:
            one = None if found is None else f"{found.dtype} {tuple(found.shape)}"
            raise FormatError(f"tensor {quoted(name)!r}: found {one}, expected float32 {tuple(place.shape)}.")
    extra = sorted(set(own) - set(rows))
    if extra:
        raise FormatError(f"tensor {quoted(extra[0])!r} belongs to no layer ({len(extra)} of them): remove it.")
    return {name: _placed(p.shape, name, own, rows, columns) for name, p in skeleton.named_parameters()}


def _placed(
    shape: torch.Size, name: str, own: Mapping[str, Tensor], rows: Mapping[str, Tensor], columns: Mapping[str, Tensor]
) -> Tensor:
    if name not in own:
        return torch.zeros(shape)
    if own[name].shape == shape:
        return own[name]
    values = torch.zeros(shape)
    if len(shape) == 1:
        values[rows[name]] = own[name]
    else:
        values[rows[name], columns[name]] = own[name]
    return values


def _places(skeleton: Network, axis: int, concern: Concern, words: Tensor | None) -> dict[str, Tensor]:
    """Return name -> rows (``axis`` 0) or columns (1) of the values of a sliced body in the whole network.

    They are found by slicing a network whose weights are their own positions. These weights are expanded views, which
    need no memory.
    """
    places = Network.skeleton(skeleton.spec)  # type: ignore[arg-type]  # a sliced parent is not a user's PyTorch module
    for name, weight in list(places.named_parameters()):
        along = min(axis, weight.dim() - 1)
        line = torch.arange(weight.shape[along])
        view = line.view(-1, *[1] * (weight.dim() - 1 - along)).expand(weight.shape)
        owner, _, key = name.rpartition(".")
        places.get_submodule(owner).register_parameter(key, nn.Parameter(view, requires_grad=False))
    return only_words(body_weights(sliced(places.body, kept_units(concern, places.layers))[0]), words)
