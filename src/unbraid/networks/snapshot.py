"""Copies of the weights of a network at one time, and their digest.

Tables (see :func:`tables`) are copied on write: the copy takes no memory until either side changes. Everything else
is copied at once: the recurrent kernels of torch unshare memory when they read it, and two threads must not do that at
the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import DataError
from unbraid.networks.copying import deep_copy
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer
from unbraid.networks.stages import Embedding, PrunedDense


def own_copy(tensor: Tensor, lazily: bool = False) -> Tensor:
    """Copy a tensor, so that later changes of one do not affect the other.

    Args:
        tensor: any tensor.
        lazily: whether to share memory until one of the two is written to, if this version of torch supports it.
    """
    tensor = tensor.detach()
    if lazily:
        try:
            return torch._lazy_clone(tensor)
        except (AttributeError, RuntimeError):  # memory of NumPy or of a file, or another version of torch
            pass
    return tensor.clone()


def address(tensor: Tensor) -> int:
    """Return the address of the values of a tensor, without unsharing lazily copied memory."""
    reads = getattr(torch._C, "_data_address", None)  # data_ptr() would copy shared memory
    return int(reads(tensor) if reads is not None else tensor.data_ptr())


def unchanged(tensor: Tensor, copy: Tensor) -> bool:
    """Return whether a tensor still has the values, dtype and device of an earlier copy."""
    if tensor.shape != copy.shape or tensor.dtype != copy.dtype or tensor.device != copy.device:
        return False
    where = address(tensor)  # 0: no memory, as on the meta device
    if where and where == address(copy) and tensor.stride() == copy.stride():
        return True
    return not tensor.is_meta and torch.equal(tensor, copy)


def tables(module: nn.Module) -> set[str]:
    """Return the names of large weights that are read only by kernels that keep memory shared.

    These are the weights of embeddings and linear layers, and of the layers of unrolled modules. Those layers run as
    linear products.
    """
    found = set()
    for name, part in module.named_modules():
        plain = isinstance(part, nn.Embedding) and part.max_norm is None  # with max_norm its forward writes
        unrolled = isinstance(part, PrunedRecurrentLayer) and isinstance(part.layer, RecurrentLayer)
        if isinstance(part, Embedding | nn.Linear | PrunedDense) or unrolled or plain:
            found |= {f"{name}.{own}" if name else own for own, _ in part.named_parameters()}
    return found


class Snapshot:
    """The weights of a network at one time; it never changes.

    Args:
        network: an nn.Module.
        described: description of the structure, part of the digest.

    Attributes:
        weights: name -> tensor, parameters and buffers.
        sha256: digest of the description, the names and the weights.
    """

    def __init__(self, network: nn.Module, described: str) -> None:
        lazy = tables(network)
        with torch.inference_mode(False):
            self.weights = {n: own_copy(t, n in lazy) for n, t in _tensors(network).items()}
        self.sha256 = _digest(self.weights, described)
        self._network: nn.Module | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Snapshot:
        return self

    def matches(self, network: nn.Module) -> bool:
        """Return whether a network has these weights at present."""
        now = _tensors(network)
        return now.keys() == self.weights.keys() and all(unchanged(now[n], t) for n, t in self.weights.items())

    def network(self, network: nn.Module) -> nn.Module:
        """Return the network itself if it has these weights, otherwise a copy with these weights."""
        if self.matches(network):
            return network
        if self._network is None:
            self._network = with_weights(network, self.weights)
        return self._network


def with_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Copy a network and set other weights; vocabularies and the spec are shared.

    Args:
        network: the network to copy.
        weights: name -> tensor of the same shape. For a parameter with several names, the last name is used.
    """
    lazy, memo = tables(network), _not_copied(network)
    with torch.inference_mode(False):
        for name, parameter in network.named_parameters(remove_duplicate=False):
            if name in weights:
                memo[id(parameter)] = nn.Parameter(own_copy(weights[name], name in lazy), requires_grad=False)
        for name, buffer in network.named_buffers(remove_duplicate=False):
            if name in weights:
                memo[id(buffer)] = own_copy(weights[name])
        return deep_copy(network, memo)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {n: t for n, t in network.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}


def _not_copied(network: nn.Module) -> dict[int, Any]:
    kept = (getattr(network, name, None) for name in ("vocabulary", "target_vocabulary", "spec"))
    return {id(value): value for value in kept if value is not None}


def _digest(weights: Mapping[str, Tensor], described: str) -> str:
    found = hashlib.sha256(described.encode())
    for name, tensor in sorted(weights.items()):
        if tensor.is_meta:
            raise DataError(f"weight {name!r} is on the meta device and has no values: load the weights first.")
        plain = tensor.cpu().contiguous().flatten().view(torch.uint8)
        found.update(
            name.encode() + plain.clone().numpy().tobytes()
        )  # .numpy() of shared memory would copy it for good
    return found.hexdigest()
