"""Origin of a module's weights: a snapshot of the parent network, and the module's own body."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.networks.copying import deep_copy
from unbraid.networks.layers import decomposable_layers
from unbraid.networks.network import Network
from unbraid.networks.snapshot import own_copy, tables, with_weights


class Origin:
    """A snapshot of the parent network of a module. Copies of a module share it.

    Args:
        network: the parent network; later training of it does not change the snapshot.
    """

    def __init__(self, network: Network) -> None:
        self.live, self._snapshot = network, network.snapshot()

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self

    @property
    def sha256(self) -> str:
        """SHA-256 of the snapshot."""
        return self._snapshot.sha256

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Name -> tensor of the snapshot, with the names of :meth:`Network.weights`."""
        return self._snapshot.weights

    def network(self) -> Network:
        """Return the network of the snapshot: the network itself, or a copy if its weights have changed."""
        return self._snapshot.network(self.live)  # type: ignore[return-value]  # a copy of a Network

    def changed(self, weights: Mapping[str, Tensor]) -> Network:
        """Return a copy of the snapshot with some weights replaced."""
        return with_weights(self.live, {**self.weights, **weights})  # type: ignore[return-value]

    def owned(self, body: nn.Module, inherited: Mapping[str, str]) -> nn.Module:
        """Return a copy of a body that owns its weights.

        Args:
            body: a body built from the network in its present state.
            inherited: parameters that the body shares with the network: name in the body -> name in the network.
        """
        lazy, own = tables(body), named_tensors(body)
        memo: dict[int, Any] = {id(p): p for p in body.parameters()}
        for name, theirs in inherited.items():
            kept = own_copy(self.weights[theirs], name in lazy)
            is_parameter = isinstance(own[name], nn.Parameter)
            memo[id(own[name])] = nn.Parameter(kept, requires_grad=False) if is_parameter else kept
        return deep_copy(body, memo)


class BodyWeights(Mapping[str, Mapping[str, Tensor]]):
    """Layer -> parameter name -> present tensor of a sliced body. Modules that share a body share this object.

    Args:
        body: the body.
        names: names of its layers that have their own weights.
    """

    def __init__(self, body: nn.Module, names: Collection[str]) -> None:
        self._body, self._names = (body,), names

    def __getitem__(self, layer: str) -> dict[str, Tensor]:
        module = decomposable_layers(self._body[0])[layer].module
        return {name: parameter.detach() for name, parameter in module.named_parameters()}

    def __iter__(self) -> Iterator[str]:
        return (name for name in decomposable_layers(self._body[0]) if name in self._names)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def inherited(body: nn.Module, network: Network) -> dict[str, str]:
    """Map names of parameters and buffers that a body shares with the network to their names in the network."""
    names = {id(p): f"body.{name}" for name, p in network.body.named_parameters()}
    every = body.named_parameters(remove_duplicate=False)
    found = {name: names[id(parameter)] for name, parameter in every if id(parameter) in names}
    buffers = network.body.state_dict().keys() - dict(network.body.named_parameters(remove_duplicate=False)).keys()
    return found | {name: f"body.{name}" for name, _ in body.named_buffers() if name in buffers}


def named_tensors(body: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name; a shared tensor appears under all of its names."""
    return dict(body.named_parameters(remove_duplicate=False)) | dict(body.named_buffers(remove_duplicate=False))


def digest(tensors: Mapping[str, Tensor]) -> bytes:
    """Compute the SHA-256 of tensors with their names, dtypes and shapes."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.is_meta:
            found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.digest()
