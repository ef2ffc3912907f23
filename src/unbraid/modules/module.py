"""One module: the part of a network that answers for one class.

Shapes: N examples, T timesteps, H units, F features.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.config import DecompositionConfig, IOArchitecture, Mode
from unbraid.data import Label
from unbraid.errors import DataError, FormatError
from unbraid.modules.concern import Concern, kept_indices, removals
from unbraid.modules.retention import Retention, retention
from unbraid.networks.encoder_decoder import EncoderDecoder, set_bridges
from unbraid.networks.heads import Head
from unbraid.networks.inputs import Inputs, run_batched
from unbraid.networks.layers import decomposable_layers, gate_rows, pruned, sliced
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.spec import NetworkSpec

LayerWeights = Mapping[str, Mapping[str, Tensor]]


class ConcernModule(nn.Module):
    """The part of a network that answers for one class, by itself usable as a detector of that class.

    A rolled module runs as exact slices of its parent's layers; an unrolled one as the parent's weights and a mask on
    values. Its output is a *margin*, the log-odds of its class.

    Args:
        parent: the monolithic model.
        index: the module's class, an index into the parent's labels.
        concern: the nodes it keeps.
        head: its output layer over all of the parent's features.
        config: how it was made.
        label: its name; the parent's by default.
        parent_sha256: digest of the network it was taken from, where ``parent`` holds only what the module needs.
        weights: of a compact module, layer -> parameter name -> the smaller layer's own tensor; one object for modules
            that share a body.
        original: of a fused module, the one that it was made from.
        bridges: of a refined module of a language, decoder layer -> weights (P, H', H) from all of an encoder layer's
            last state, of P parts, to what is left of the decoder layer's first.
    """

    def __init__(
        self,
        parent: Network,
        index: int,
        concern: Concern,
        head: Head,
        config: DecompositionConfig,
        label: Label | None = None,
        parent_sha256: str | None = None,
        weights: LayerWeights | None = None,
        original: ConcernModule | None = None,
        bridges: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._parent = (parent,)  # not a submodule: a module moves and saves by itself
        self._original = (original,)
        self.index, self.concern, self.config, self.whole_head = index, concern, config, head
        self.label: Label = parent.labels[index] if label is None else label
        self.parent_sha256 = parent_sha256 or parent.sha256()
        self.body, self.features = _built(parent, concern)
        self.weights = weights
        self.bridges = bridges
        if weights is not None:
            _fill(self.body, weights)
        if bridges is not None:
            assert isinstance(self.body, EncoderDecoder)
            set_bridges(self.body, bridges)
        self.head = head.sliced(self.features)
        self.eval()

    @property
    def parent(self) -> Network:
        """The network it was taken from (of a rolled module saved alone: what is left of it)."""
        return self._parent[0]

    @property
    def original(self) -> ConcernModule | None:
        """Of a fused module, the one that it was made from."""
        return self._original[0]

    @property
    def labels(self) -> list[Label]:
        """The one class it answers for."""
        return [self.label]

    @property
    def io(self) -> IOArchitecture:
        """Inputs and outputs over time."""
        return self.parent.io

    @property
    def kept_nodes(self) -> dict[str, np.ndarray]:
        """Layer name -> booleans, (H,) rolled or (T, H) unrolled."""
        return {name: self.concern.nodes(layer) for name, layer in self.parent.layers.items()}

    def retention(self) -> Retention:
        """What of the parent it keeps: nodes, weights, bytes and FLOPs, as shares in [0, 1]."""
        added = sum(weight.numel() for weight in (self.bridges or {}).values())
        return retention(self.parent, self.concern, self.head.weight.shape[0], added)

    def forward(self, x: Any) -> Tensor:
        """The margin: log-odds of the module's class, (N,), or (N, T) for many outputs."""
        return self.head.margin(self.body(x))

    def margins(self, x: Any) -> np.ndarray:
        """Margins over all examples in batches, (N,) or (N, T); raises DataError where inputs do not fit."""
        check_steps(self, inputs := self.parent.check(x))
        return run_batched(self, inputs, self.head.weight.device, decided=not self.io.many_outputs)

    def predict_proba(self, x: Any) -> np.ndarray:
        """P(dominant), (N,) or (N, T), in [0, 1]; raises DataError where inputs do not fit."""
        return torch.sigmoid(torch.from_numpy(self.margins(x))).numpy()

    def claims(self, x: Any) -> np.ndarray:
        """Booleans (N,) or (N, T): whether P(dominant) > 0.5; raises DataError."""
        return self.margins(x) > 0

    def predict(self, x: Any) -> np.ndarray:
        """The module's label where it claims the example, None elsewhere, (N,) or (N, T) objects; raises DataError."""
        claimed = self.claims(x)
        found = np.full(claimed.shape, None, dtype=object)
        found[claimed] = self.label
        return found

    def renamed(self, label: Label) -> ConcernModule:
        """The same module under another name."""
        other = copy.copy(self)
        other.label = label
        return other

    def save(
        self, folder: str | os.PathLike[str], license: str | None = None, scores: Mapping[str, Any] | None = None
    ) -> None:
        """Write this module alone, with only what it needs, and a model card.

        Args:
            folder: where; an Unbraid folder that is there is replaced.
            license: for the card, as ``cc-by-4.0``.
            scores: figures to keep beside the module.

        Raises:
            FormatError: something else lies there.
        """
        from unbraid.modules.card import NOTHING  # both build on modules, so they cannot come first
        from unbraid.modules.saving import save_module

        save_module(folder, self, NOTHING.changed(license, scores))


def check_steps(module: ConcernModule, x: Inputs) -> None:
    """Unrolled masks are made for one T; raises DataError for another."""
    if module.concern.mode is Mode.ROLLED or module.parent.io.value.startswith("1"):
        return
    if x.ragged:
        raise DataError(
            f"the unrolled module {module.label!r} reads texts of one length: give the network's vocabulary a length "
            "(steps=...), or decompose with mode='rolled'."
        )
    if not isinstance(module.parent.spec, NetworkSpec):
        return  # shorter batches are padded by the module itself; longer ones are refused where they run
    steps = next(iter(module.concern.steps.values()))  # the first layer reads the input's timesteps
    if x.array.shape[1] != steps:
        raise DataError(
            f"inputs have {x.array.shape[1]} timesteps, the unrolled module {module.label!r} was made for {steps}: "
            "pad or cut them, or decompose with mode='rolled'."
        )


def _built(parent: Network, concern: Concern) -> tuple[nn.Module, Tensor | None]:
    if concern.mode is Mode.UNROLLED:
        return aliased(pruned(parent.body, removals([concern], parent.layers, parent.device), 1)), None
    kept = {name: kept_indices(concern, layer).to(parent.device) for name, layer in parent.layers.items()}
    body, features = sliced(parent.body, kept, lambda name, layer: _without_gates(layer, concern, name))
    return aliased(body), features


def _without_gates(layer: nn.Module, concern: Concern, name: str) -> nn.Module:
    """The layer with the columns of removed gates at zero."""
    if not concern.by_gates or not isinstance(layer, RecurrentLayer) or len(layer.cell.gates) == 1:
        return layer
    edited = copy.deepcopy(layer)
    gone = torch.from_numpy(~concern.kept[name].reshape(-1)).to(layer.weight_ih.device)
    assert len(gone) == len(gate_rows(layer, torch.arange(layer.units)))
    for parameter in edited.parameters():
        parameter.data[gone] = 0
    return edited


def _fill(body: nn.Module, weights: LayerWeights) -> None:
    """Give a sliced body's layers weights of their own; raises FormatError where a shape does not fit."""
    for name, layer in decomposable_layers(body).items():
        for key, parameter in layer.module.named_parameters():
            own = weights.get(name, {}).get(key)
            if own is None or own.shape != parameter.shape or not torch.isfinite(own).all():
                found = None if own is None else tuple(own.shape)
                expected = tuple(parameter.shape)
                raise FormatError(f"layer {name!r}, {key}: found {found}, expected finite values of shape {expected}.")
            setattr(layer.module, key, nn.Parameter(own.to(parameter), requires_grad=False))


def aliased(module: nn.Module) -> nn.Module:
    """A copy of the structure with parameters of its own over the same memory, so that moving one leaves the other."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.data, requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, memo)
