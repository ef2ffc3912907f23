"""Convert recurrent stacks of a user's module to layers of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import UnsupportedLayer
from unbraid.networks.own_stack import OwnStack
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.pytorch.heads import copied_linear
from unbraid.networks.pytorch.linear_site import LinearSite
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.pytorch.subclasses import joined
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stack import CellStack, RecurrentStack

CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
KINDS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def plain_layer(path: str, stack: RecurrentStack, like: Tensor) -> nn.RNNBase | nn.RNNCellBase:
    """Make a layer or cell of torch with the weights of a stack, in the type and on the device of ``like``.

    It has a bias if the original layer has one, or if the weights need one.
    """
    if isinstance(stack, OwnStack):
        raise UnsupportedLayer(
            f"layer {path!r} is a cell of your own class ({stack.cell.name}); shrink makes layers of torch smaller. "
            "decompose() supports it."
        )
    if isinstance(stack, CellStack):
        return _plain_cell(stack, like)
    cell, layers = stack.cell, list(stack.layers)
    settings: dict[str, Any] = {
        "num_layers": stack.num_layers,
        "bias": stack.bias or any(bool(part.bias_ih.any()) or bool(part.bias_hh.any()) for part in layers),  # type: ignore[operator]
        "batch_first": stack.batch_first,
        "dropout": stack.dropout,
        "bidirectional": stack.bidirectional,
        "device": like.device,
        "dtype": like.dtype,
    }
    if cell.kind == "rnn":
        settings["nonlinearity"] = cell.activation
    if stack.proj_size:
        settings["proj_size"] = stack.proj_size
    layer = KINDS[cell.kind](stack.input_size, stack.hidden_size, **settings)
    with torch.no_grad():
        for place, part in enumerate(layers):
            level, backward = divmod(place, stack.directions)
            suffix = f"l{level}" + ("_reverse" if backward else "")
            own = {name: getattr(part, name) for name in ("weight_ih", "weight_hh")}
            if stack.proj_size:
                own = dict(zip(own, stack.unprojected(place), strict=True)) | {"weight_hr": stack.projections[place]}
            own |= {name: getattr(part, name) for name in ("bias_ih", "bias_hh") if layer.bias}
            for name, value in own.items():
                getattr(layer, f"{name}_{suffix}").copy_(value)
    return layer.requires_grad_(like.requires_grad)


def _plain_cell(stack: CellStack, like: Tensor) -> nn.RNNCellBase:
    part = stack.layers[0]
    assert isinstance(part, RecurrentLayer)
    settings: dict[str, Any] = {"nonlinearity": stack.cell.activation} if stack.cell.kind == "rnn" else {}
    bias = stack.bias or bool(part.bias_ih.any()) or bool(part.bias_hh.any())
    made = CELLS[stack.cell.kind](stack.input_size, stack.hidden_size, bias, device=like.device, dtype=like.dtype,
                                  **settings)  # fmt: skip
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if bias else ())):
            getattr(made, name).copy_(getattr(part, name))
    return made.requires_grad_(like.requires_grad)


def user_module(body: TorchBody) -> nn.Module:
    """Return the user's module with layers of torch in place of the recurrent stacks."""
    memo: dict[int, Any] = {}
    for path, stack in body.stacks().items():
        if isinstance(stack, OwnStack):
            memo[id(stack)] = copied(stack.own_layer.own).eval()
            continue
        first = stack.layers[0]
        assert isinstance(first, RecurrentLayer)
        memo[id(stack)] = plain_layer(path, stack, first.weight_ih).eval()
    for path, site in body.sites().items():
        memo[id(body.module.get_submodule(path))] = plain_linear(site)
    tap = body.module.get_submodule(body.spec.head)
    linear = copied_linear(tap)
    weight, bias = (nn.Parameter(p.detach().clone()) for p in (linear.weight, linear.bias))
    head: nn.Linear | nn.Conv1d = linear
    if isinstance(tap, nn.Conv1d):
        head, weight = nn.Conv1d(tap.in_channels, tap.out_channels, 1), nn.Parameter(weight.unsqueeze(-1))
    head.weight, head.bias = weight, bias
    memo[id(tap)] = head
    return joined(copied(body.module, memo)).eval().requires_grad_(True)


def plain_linear(site: LinearSite) -> nn.Linear:
    """Make an nn.Linear of a site that has no zeros between its outputs. It always has a bias."""
    made = nn.Linear(site.weight.shape[1], site.weight.shape[0], device=site.weight.device, dtype=site.weight.dtype)
    with torch.no_grad():
        made.weight.copy_(site.weight)
        made.bias.copy_(site.bias)
    return made.eval()


def narrow_stack(stack: RecurrentStack, layers: list[nn.Module], inputs: int) -> RecurrentStack:
    """Copy a stack with smaller layers; its outputs and states have the size of these layers."""
    small = stack.exchanged(layers, [None] * len(layers))
    small.input_size, small.hidden_size = inputs, int(layers[0].units)  # type: ignore[arg-type]
    return small
