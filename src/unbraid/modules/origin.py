"""Where a module's weights come from: the network that it was taken from, as it was then, and the module's own body."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.networks.layers import decomposable_layers
from unbraid.networks.network import Network
from unbraid.networks.snapshot import own_copy, tables, with_weights


class Origin:
    """The network that a module was taken from, with the weights that it had then. Copies of a module share it.

    Args:
        network: the network; it may be trained further.
    """

    def __init__(self, network: Network) -> None:
        self.live, self._snapshot = network, network.snapshot()

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self

    @property
    def sha256(self) -> str:
        """Digest of the network as it was."""
        return self._snapshot.sha256

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Name -> tensor, as :meth:`Network.weights` gave them then."""
        return self._snapshot.weights

    def network(self) -> Network:
        """The network as it was: itself, or a copy where it has been changed."""
        return self._snapshot.network(self.live)  # type: ignore[return-value]  # a copy of a Network

    def changed(self, weights: Mapping[str, Tensor]) -> Network:
        """A copy of the network as it was, but for some weights."""
        return with_weights(self.live, {**self.weights, **weights})  # type: ignore[return-value]

    def owned(self, body: nn.Module, inherited: Mapping[str, str]) -> nn.Module:
        """A body with weights of its own.

        Args:
            body: built from the network as it is.
            inherited: its parameters that are the network's own, name -> the network's name.
        """
        lazy, own = tables(body), named_tensors(body)
        memo: dict[int, Any] = {id(p): p for p in body.parameters()}
        for name, theirs in inherited.items():
            kept = own_copy(self.weights[theirs], name in lazy)
            is_parameter = isinstance(own[name], nn.Parameter)
            memo[id(own[name])] = nn.Parameter(kept, requires_grad=False) if is_parameter else kept
        return copy.deepcopy(body, memo)


class BodyWeights(Mapping[str, Mapping[str, Tensor]]):
    """Layer -> parameter name -> tensor, as a sliced body has them now; one object for modules that share a body.

    Args:
        body: the body.
    """

    def __init__(self, body: nn.Module) -> None:
        self._body = (body,)

    def __getitem__(self, layer: str) -> dict[str, Tensor]:
        module = decomposable_layers(self._body[0])[layer].module
        return {name: parameter.detach() for name, parameter in module.named_parameters()}

    def __iter__(self) -> Iterator[str]:
        return iter(decomposable_layers(self._body[0]))

    def __len__(self) -> int:
        return len(decomposable_layers(self._body[0]))


def inherited(body: nn.Module, network: Network) -> dict[str, str]:
    """Parameters and buffers of a body that are the network's own: name in the body -> name in the network."""
    names = {id(p): f"body.{name}" for name, p in network.body.named_parameters()}
    every = body.named_parameters(remove_duplicate=False)
    found = {name: names[id(parameter)] for name, parameter in every if id(parameter) in names}
    buffers = network.body.state_dict().keys() - dict(network.body.named_parameters(remove_duplicate=False)).keys()
    return found | {name: f"body.{name}" for name, _ in body.named_buffers() if name in buffers}


def named_tensors(body: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by all of their names."""
    return dict(body.named_parameters(remove_duplicate=False)) | dict(body.named_buffers(remove_duplicate=False))


def digest(tensors: Mapping[str, Tensor]) -> bytes:
    """Digest of tensors, their names, types and shapes."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:
            found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.digest()
